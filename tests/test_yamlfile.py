import re
from pathlib import Path

import pytest

from seqgen.errors import InputError
from seqgen.yamlfile import parse_yaml, read_yaml, require_schema_version

TEXT = """\
# a comment
top: 1
section:
  inner: {a: 1e-3, b: yes}
  list:
    - 5
    - six
"""


def test_every_node_knows_its_line_and_path():
    root = parse_yaml(TEXT, "f.yaml")
    inner = root.child("section").child("inner")
    assert (inner.line, inner.path, inner.at) == (4, "section.inner", "f.yaml:4")
    last = root.child("section").child("list").child(1)
    assert (last.line, last.path, last.value) == (7, "section.list[1]", "six")


def test_yaml_1_2_scalars():
    inner = parse_yaml(TEXT, "f.yaml").child("section").child("inner")
    assert inner.child("a").value == 0.001  # an exponent without a dot is a number
    assert inner.child("b").value == "yes"  # and yes is a word


def test_merged_keys_are_readable_and_stand_at_the_line_of_their_section():
    root = parse_yaml("a: &x\n  p: 1\nb:\n  <<: *x\n  q: 2\n", "f.yaml")
    children = root.child("b").children()
    assert {key: child.value for key, child in children.items()} == {"p": 1, "q": 2}
    assert children["p"].line == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"f.yaml: is empty"),
        ("# only a comment\n", r"f.yaml: is empty"),
        ("- 1\n- 2\n", r"f.yaml:1: must hold keys with values"),
        ("a: 1\nb: [1\nc: 2\n", r"f.yaml:3: is not YAML"),
        ("a: 1\nb: c: d\n", r"f.yaml:2: is not YAML"),
        ("a:\n  b: 1\n\tc: 2\n", r"f.yaml:3: is not YAML"),
        ("a: 1\nb: 2\na: 3\n", r"f.yaml:3: key 'a' is given twice"),
        ("s:\n  a: 1\n  a: 3\n", r"f.yaml:3: key 'a' is given twice"),
        ("a: 1\n---\nb: 2\n", r"f.yaml:2: is not YAML: but found another document"),
        ("a: \x00\n", r"f.yaml: is not YAML"),
        ("a: " + "[" * 1000, r"f.yaml: is nested too deep"),
        ("a: " + "9" * 5000, r"f.yaml: is not YAML"),
        ("a: 2020-13-45\n", r"f.yaml: is not YAML"),
    ],
)
def test_bad_text_is_one_clear_error(text, message):
    with pytest.raises(InputError, match=message):
        parse_yaml(text, "f.yaml")


def test_unreadable_files_are_named(tmp_path):
    with pytest.raises(InputError, match=re.escape(str(tmp_path / "none.yaml")) + r".*No such file"):
        read_yaml(tmp_path / "none.yaml")
    with pytest.raises(InputError, match="Is a directory"):
        read_yaml(tmp_path)
    binary = tmp_path / "b.yaml"
    binary.write_bytes(b"a: 1\n\xff\xfe")
    with pytest.raises(InputError, match=r"b.yaml: byte 5 is not UTF-8"):
        read_yaml(binary)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\n", r"f.yaml:1: missing key 'schema_version'"),
        ("a: 1\nschema_version: 2\n", r"f.yaml:2: 'schema_version' must be 1, .* but is 2"),
        ("schema_version: '1'\n", r"f.yaml:1: 'schema_version' must be 1, .* but is '1'"),
        ("schema_version: true\n", r"f.yaml:1: 'schema_version' must be 1, .* but is true"),
    ],
)
def test_schema_version_is_required(text, message):
    with pytest.raises(InputError, match=message):
        require_schema_version(parse_yaml(text, "f.yaml"), 1)


def test_reading_leaves_the_file_alone(tmp_path):
    path: Path = tmp_path / "a.yaml"
    path.write_text(TEXT)
    read_yaml(path)
    assert path.read_text() == TEXT
