"""Checks switchboard.py against tests/vectors, both ways, and the vectors line by line against themselves."""
import struct, sys
import switchboard
from switchboard import BODIES, FIELDS, Record
from vectors import read, value

NUMBERS = {"HELLO": 1, "WELCOME": 2, "GOODBYE": 3, "METHOD_NAME": 0x8001, "TRACEPARENT": 2}
NUMBERS.update((name, getattr(switchboard, name)) for name in "CALL SEND REPLY OUTCOME CANCEL ITEM CREDIT EVENT".split())
WIDTHS = dict(zip(FIELDS, (4, 2, 1, 1, 1, 1, 2, 4, 8, 8, 8, 8, 8, 8)))
# The bodies that SPEC 7.9 leaves to protocol/src/control.rs.
for name, fields in {
    "Status": "version:s pid:4 incarnation:4 uptime_ns:8 system:b connections:4 names:4 names_owned:4 handles:4 "
              "calls_open:4 waiting:4 waiting_bytes:8 watches:4 limits:*LimitInfo memory_bytes_max:8 counters:*Counter",
    "LimitInfo": "name:s value:8 used:8 bytes:8", "Counter": "name:s value:8",
    "Stats": "peers:*PeerStats next:s",
    "PeerStats": "peer:8 uid:4 pid:4 program:s frames_in:8 bytes_in:8 frames_out:8 bytes_out:8 calls_open:4 serving:4 "
                 "unread_bytes:8 handles:4",
    "Waits": "edges:*WaitEdge cycles:*Cycle truncated:b", "Cycle": ":*8",
    "WaitEdge": "request:8 parent:8 caller:8 caller_pid:4 caller_program:s name:s server:8 server_pid:4 "
                "server_program:s age_ns:8 left_ns:8 priority:b",
    "Monitor": "pattern:s payload_bytes:4",
    "MonitorItem": "lost:8 at_ns:8 kind:b from:8 to:8 name:s method:4 method_name:s request:8 priority:b "
                   "payload_len:4 payload:y",
    "Explain": "uid:?4 groups:*4 label:s verb:4 name:s", "Explained": "allowed:b rule:s priority_max:b",
    "Reloaded": "files:*File", "File": ":s",
}.items():
    BODIES[name] = [field.split(":") for field in fields.split()]


def flat(body, prefix=""):
    """A decoded body as the vectors write it: a path and a value for each thing on the wire."""
    for name, it in vars(body).items():
        path = f"{prefix}.{name}" if prefix and name else prefix + name
        if isinstance(it, Record): yield from flat(it, path)
        elif isinstance(it, (list, bytes)):
            yield path + ".len", len(it)
            for at, element in enumerate(it):
                if isinstance(element, Record): yield from flat(element, f"{path}[{at}]")
                else: yield f"{path}[{at}]", element
        else: yield path, it


def number(text):
    return NUMBERS[text] if text in NUMBERS else value(text)


def check_lines(vector):
    """Each line's bytes are the value that stands beside them."""
    header, *sections = vector.sections
    assert [field.name for field in header.fields] == FIELDS
    for field in header.fields:
        assert len(field.bytes) == WIDTHS[field.name], field
        assert int.from_bytes(field.bytes, "little") == number(field.value), field
    for section in sections:
        for field in section.fields:
            if field.name == "zeros": assert not any(field.bytes), field
            elif field.value.startswith('"'):
                text = value(field.value).encode()
                assert field.bytes == (bytes([len(text)]) if section.kind.startswith("payload ") else b"") + text, field
            elif section.kind == "handle": assert int.from_bytes(field.bytes, "little") == number(field.value), field


def check_frame(vector):
    header, *sections = vector.sections
    frame, size = switchboard.unpack(vector.bytes)
    assert size == len(vector.bytes)
    for field in header.fields:
        if field.name != "handles": assert getattr(frame, field.name) == number(field.value), field
    records = [[number(f.value) for f in s.fields if f.name == "type"] +
               [f.bytes for f in s.fields if f.name == "value"] for s in sections if s.kind == "extension"]
    assert [list(it) for it in frame.extensions] == [r if len(r) == 2 else r + [b""] for r in records]
    handles = [tuple(number(f.value) for f in s.fields) for s in sections if s.kind == "handle"]
    assert frame.handles == handles
    payload, = [s for s in sections if s.kind.startswith("payload")] or [Record(kind="payload", fields=[])]
    assert frame.payload == b"".join(f.bytes for f in payload.fields)
    body = payload.kind[8:]
    if vector.error == "Body":
        try: switchboard.decode(body, frame.payload)
        except switchboard.BadFrame: return
        assert False, "a malformed body was taken"
    data = frame.payload
    if body:
        meaning = switchboard.decode(body, data)
        assert [(f.name, value(f.value)) for f in payload.fields] == list(flat(meaning)), meaning
        data = switchboard.encode(body, **vars(meaning))
    if any(s.kind == "extension area" for s in sections): return  # nobody would write it so
    fields = {name: getattr(frame, name) for name in FIELDS if name not in ("len", "ext_len", "kind", "handles")}
    assert switchboard.pack(frame.kind, data, frame.extensions, handles, **fields) == vector.bytes


def check_broken(vector):
    try: switchboard.unpack(vector.bytes)
    except switchboard.BadFrame as error: assert str(error) == vector.error, f"found {error}"
    else: assert False, "a broken frame was taken"


passed = failed = 0
for vector in read():
    try:
        check_lines(vector)
        (check_broken if vector.error not in (None, "Body") else check_frame)(vector)
        passed += 1
    except (AssertionError, switchboard.BadFrame) as error:
        failed += 1
        print(f"{vector.place}\n    {type(error).__name__}: {error}", file=sys.stderr)
print(f"{passed} passed, {failed} failed")
sys.exit(failed != 0 or passed == 0)
