"""`seqgen init`: protocols, simulation files and designs that are shipped, written into the user's folder."""

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from seqgen import library
from seqgen.errors import InputError
from seqgen.provenance import write_text
from seqgen.yamlfile import parse_yaml


@dataclass(frozen=True, kw_only=True, slots=True)
class Written:
    """What was written."""

    beside: tuple[Path, ...]
    """Files beside the first one."""
    advice: str
    """What to do next, with the command."""


def write_shipped(name: str, output: Path) -> Written:
    """Write a shipped protocol, simulation file or design, with the files that belong to it beside it.

    A design is its protocol and its design file, both byte for byte.

    Args:
        name: Name of a file of `seqgen_protocols`, or of a design (`library.design_names`).
        output: The YAML file; others take its name or keep theirs, in its folder.

    Raises:
        InputError: If there is none of this name, the output is no .yaml, or a file exists already.
    """
    if output.suffix.lower() not in (".yaml", ".yml"):
        raise InputError(f"{output} must end in .yaml: it is a protocol. Files that belong to it take its name.")
    folder = files("seqgen_protocols")
    known = sorted(item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml"))
    designs = library.design_names()
    if name in designs:
        protocol, design = library.design_files(name)
        beside = output.with_suffix(".json")
        contents = {output: protocol.read_bytes(), beside: design.read_bytes()}
        advice = (
            f"Build it as it is: seqgen build {output} --design {beside} -o {output.stem} (place the voxel with "
            "--voxel-from). Averages, suppression, scanner and fit may be changed, TR unless `equal_scan_time` counts "
            "it; what the design is for needs `seqgen design` again."
        )
    elif name in known:
        contents = {output: folder.joinpath(f"{name}.yaml").read_bytes()}
        for item in folder.iterdir():
            if item.name.startswith(name) and item.name.endswith(".csv"):
                contents[output.parent / item.name] = item.read_bytes()
        text = contents[output].decode("utf-8")
        varied = parse_yaml(text, name).value.get("protocol") if name.startswith("sweep_") else None
        if varied is not None and not (output.parent / varied).exists():
            contents[output.parent / varied] = folder.joinpath(varied).read_bytes()
        document = folder.joinpath(f"{name.removesuffix('_ge')}.md")
        if document.is_file() and output.suffix != ".md":
            contents[output.with_suffix(".md")] = document.read_bytes()
        commands = {
            "sweep": f"seqgen sweep {output}",
            "simulate": f"seqgen simulate {output} -o fids.npz",
            "scan": f"seqgen build {output} -o {output.stem}",
        }
        then = commands.get(name.partition("_")[0], f"seqgen run {output} -o runs/{output.stem}")
        advice = f"Edit {output.name}, then: {then}"
    else:
        raise InputError(
            f"There is no shipped protocol or design {name!r}; protocols are {', '.join(known)}, designs "
            f"{', '.join(designs) or 'none'}."
        )
    if output.exists():
        raise InputError(f"{output} exists already and is not overwritten. Choose another name.")
    beside_output = tuple(path for path in contents if path != output)
    for path in beside_output:
        if path.exists():
            raise InputError(f"{path} exists already and is not overwritten. Write {output.name} to another folder.")
    for path in (*beside_output, output):
        write_text(path, contents[path].decode("utf-8"))
    return Written(beside=beside_output, advice=advice)
