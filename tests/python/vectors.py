"""Reads tests/vectors; their README.md says how they are written."""
import pathlib, re
from types import SimpleNamespace as Record

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "vectors"
LINE = re.compile(r"((?:[0-9a-f]{2} )*[0-9a-f]{2})(?:  +(.*))?")


def read():
    """Every vector, in order: from whom, the sections after and with the header, bytes, and the error if any."""
    vectors = []
    for path in sorted(FOLDER.glob("*.txt")):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if not line or line[0] == "#": continue
            if line.startswith(("client: ", "broker: ")):
                vectors.append(Record(file=path.name, place=f"{path.name}:{number}: {line}", client=line[0] == "c",
                                      error=None, sections=[Record(kind="header", fields=[])], bytes=b""))
                continue
            vector, hexed = vectors[-1], LINE.fullmatch(line)
            if line.startswith("error: "): vector.error = line[7:]
            elif hexed is None: vector.sections.append(Record(kind=line, fields=[]))
            else:
                data, fields = bytes.fromhex(hexed[1]), vector.sections[-1].fields
                vector.bytes += data
                if hexed[2] is None: fields[-1].bytes += data
                else:
                    name, _, value = hexed[2].partition(" = ")
                    fields.append(Record(name=name, value=value, bytes=data))
    return vectors


def value(text):
    if text.startswith('"'): return text[1:-1]
    if text.startswith("some "): return int(text[5:], 0)
    words = {"none": None, "some": "some", "true": True, "false": False}
    return words[text] if text in words else int(text, 0)
