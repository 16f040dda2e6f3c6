"""Checks switchboard.py against tests/vectors, both ways, and the vectors line by line against themselves."""
import struct, sys
import switchboard
from switchboard import BODIES, FIELDS, Record
from vectors import read, value

NUMBERS = {"HELLO": 1, "WELCOME": 2, "GOODBYE": 3, "METHOD_NAME": 0x8001, "TRACEPARENT": 2, "PUSH": 0x8003, "GROUP": 0x8004,
           "PRODUCER": 0x8005, "QUEUES": 0x8006, "TOPIC": 7, "DEAD_LETTER": 8}
NUMBERS.update((name, getattr(switchboard, name)) for name in "CALL SEND REPLY OUTCOME CANCEL ITEM CREDIT EVENT".split())
WIDTHS = dict(zip(FIELDS, (4, 2, 1, 1, 1, 1, 2, 4, 8, 8, 8, 8, 8, 8)))
# The bodies that SPEC 7.9 leaves to protocol/src/control.rs.
for name, fields in {
    "Status": "version:s pid:4 incarnation:4 uptime_ns:8 system:t connections:4 names:4 names_owned:4 handles:4 "
              "calls_open:4 waiting:4 waiting_bytes:8 watches:4 subscriptions:4 queued:8 queued_bytes:8 storage:=Storage "
              "recorder:=Recorder limits:*LimitInfo memory_bytes_max:8 counters:*Counter",
    "Storage": "failure:s appended:8 synced:8 bytes:8 segment_first:4 segment_last:4",
    "Recorder": "bytes:8 payloads:t file:8 pause_ns:8 failure:s",
    "LimitInfo": "name:s value:8 used:8 bytes:8", "Counter": "name:s value:8",
    "Stats": "peers:*PeerStats next:s",
    "PeerStats": "peer:8 uid:4 pid:4 program:s frames_in:8 bytes_in:8 frames_out:8 bytes_out:8 calls_open:4 serving:4 "
                 "unread_bytes:8 handles:4",
    "Waits": "edges:*WaitEdge cycles:*Cycle truncated:t", "Cycle": ":*8",
    "WaitEdge": "request:8 parent:8 caller:8 caller_pid:4 caller_program:s name:s server:8 server_pid:4 "
                "server_program:s age_ns:8 left_ns:8 priority:b",
    "Monitor": "pattern:s payload_bytes:4",
    "MonitorItem": "lost:8 at_ns:8 kind:b from:8 to:8 name:s method:4 method_name:s request:8 priority:b "
                   "payload_len:4 payload:y",
    "Explain": "uid:?4 groups:*4 label:s verb:4 name:s", "Explained": "allowed:t rule:s priority_max:b",
    "Reloaded": "files:*File", "File": ":s",
}.items():
    BODIES[name] = [field.split(":") for field in fields.split()]


def flat(kind, it, path=""):
    """A decoded value as the vectors write it: a path and a value for each thing on the wire."""
    if kind[0] == "?":
        if it is not None and kind[1] not in "48": yield path, "some"
        if it is None or kind[1] in "48": yield path, it
        else: yield from flat(kind[1:], it, path)
    elif kind[0] in "y*":
        yield path + ".len", len(it)
        inner = "b" if kind == "y" else kind[1:] if kind[1:] in "48" else "=" + kind[1:]
        for at, element in enumerate(it): yield from flat(inner, element, f"{path}[{at}]")
    elif kind[0] == "=":
        for name, inner in BODIES[kind[1:]]: yield from flat(inner, getattr(it, name), f"{path}.{name}" if path and name else path + name)
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
                assert field.bytes == (bytes([len(text)]) if section.kind.startswith(("payload ", "extension ")) else b"") + text, field
            elif section.kind in ("handle", "extension", "message", "payload") and field.value:
                assert int.from_bytes(field.bytes, "little") == number(field.value), field


def framed(section):
    """The value of an extension, or a message, without what frames it."""
    return b"".join(f.bytes for f in section.fields if f.name not in ("type", "length", "attribute", "zeros"))


def check_value(section, kind, meaning):
    """An extension's value means what its fields say, and the other way round."""
    said = [value(f.value) for f in section.fields if f.name not in ("type", "length", "zeros", "reserved") and f.value]
    if kind in (switchboard.PUSH_OPTIONS, switchboard.PRODUCER, switchboard.QUEUES): assert list(meaning) == said, meaning
    if kind == switchboard.PUSH_OPTIONS: assert switchboard.struct.pack("<B3xQQ", *meaning) == framed(section)
    if section.kind == "extension DeadLetter":
        assert list(vars(meaning).values()) == said
        assert switchboard.encode("DeadLetter", **vars(meaning)) == framed(section)


def check_frame(vector):
    header, *sections = vector.sections
    frame, size = switchboard.unpack(vector.bytes)
    assert size == len(vector.bytes)
    for field in header.fields:
        if field.name != "handles": assert getattr(frame, field.name) == number(field.value), field
    records = [s for s in sections if s.kind.startswith("extension") and s.kind != "extension area"]
    assert frame.extensions == [(number(s.fields[0].value), framed(s)) for s in records]
    for section, (kind, data) in zip(records, frame.extensions):
        try: check_value(section, kind, switchboard.extension_value(kind, data))
        except switchboard.BadFrame: assert vector.error == "Value"
        else: assert vector.error != "Value", "a malformed value was taken"
    handles = [tuple(number(f.value) for f in s.fields) for s in sections if s.kind == "handle"]
    assert frame.handles == handles
    messages = [s for s in sections if s.kind == "message"]
    payload, = [s for s in sections if s.kind.startswith("payload")] or [Record(kind="payload", fields=[f for s in messages for f in s.fields])]
    assert frame.payload == b"".join(f.bytes for f in payload.fields)
    body = payload.kind[8:]
    if vector.error == "Body":
        try: switchboard.decode(body, frame.payload)
        except switchboard.BadFrame: return
        assert False, "a malformed body was taken"
    if vector.error in ("Batch", "Leases"):
        read_it = switchboard.parts if vector.error == "Batch" else switchboard.leases
        try: read_it(frame.payload)
        except switchboard.BadFrame: return
        assert False, f"malformed: {vector.error}, and it was taken"
    data = frame.payload
    assert bool(messages) == bool(frame.flags & switchboard.BATCH)
    if messages:
        meaning = [(number(s.fields[1].value), framed(s)) for s in messages]
        assert switchboard.parts(data) == meaning
        data = switchboard.batch(meaning)
    if payload.fields and payload.fields[0].name == "lease[0]":
        assert switchboard.leases(data) == [value(f.value) for f in payload.fields]
    if body:
        meaning = switchboard.decode(body, data)
        assert [(f.name, value(f.value)) for f in payload.fields] == list(flat("=" + body, meaning)), meaning
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
        (check_frame if vector.error in (None, "Batch", "Body", "Leases", "Value") else check_broken)(vector)
        passed += 1
    except (AssertionError, switchboard.BadFrame) as error:
        failed += 1
        print(f"{vector.place}\n    {type(error).__name__}: {error}", file=sys.stderr)
print(f"{passed} passed, {failed} failed")
sys.exit(failed != 0 or passed == 0)
