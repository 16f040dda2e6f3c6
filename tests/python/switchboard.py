"""A Switchboard client in one file, written from protocol/SPEC.md alone; its clauses stand in brackets.

A `Connection` belongs to one thread. Whatever waits on it (a call, `run`) meanwhile answers the requests
for the names it serves, so a handler may make calls of its own.
"""
import collections, inspect, itertools, select, socket, struct, time
from types import SimpleNamespace as Record

HELLO, WELCOME, GOODBYE = 1, 2, 3
CALL, SEND, REPLY, OUTCOME, CANCEL, ITEM, CREDIT, EVENT = range(0x10, 0x18)
STREAM, NO_WAIT, BATCH = 1, 2, 4  # flags [2.7]
METHOD_NAME, TRACEPARENT, PUSH_OPTIONS, GROUP = 0x8001, 0x0002, 0x8003, 0x8004  # extensions [2.5]
PRODUCER, QUEUES, TOPIC_NAME, DEAD_LETTER = 0x8005, 0x8006, 0x0007, 0x0008
OPEN, CLOSE, SERVE, WAIT, LIST = 1, 2, 3, 6, 8  # control operations [6.2]
SUBSCRIBE, TOPIC_STAT, WILL, CREATE_QUEUE, DELETE_QUEUE = range(17, 22)
SERVICE, TOPIC, QUEUE, SIGNAL = range(1, 5)  # kinds of object [3.4]; the last one is called an event there
MAY_SERVE, MAY_CALL, MAY_PUBLISH, MAY_SUBSCRIBE, MAY_PUSH, MAY_POP, _, MAY_SIGNAL, MAY_DELEGATE = (1 << n for n in range(9))  # [3.4]
PUSH, POP, ACK, NACK, EXTEND, PEEK, PURGE, STAT, REDRIVE = range(1, 10)  # methods of a queue [10.2]
RAISE, PULSE, AWAIT = 1, 2, 3  # methods of an event [11.2]
MESSAGE, SUBSCRIBED, LOST, EARLIER = range(4)  # items of a subscription [9.5]
DROP_OLDEST, LATEST, BLOCK, DISCONNECT = range(4)  # slow subscribers [9.6]
MEMORY, OS, DISK = range(3)  # levels [10.6]
REQUEUE, FAIL, DEAD = range(3)  # what a Nack asks for [10.10]
ATTACHED, DETACHED, CONSUMED = range(3)  # leases [10.9]
FRAME_MAX = 256 << 20

HEADER = struct.Struct("<IHBBBBHIQQQQQQ")  # [2.2]
FIELDS = "len ext_len kind flags priority version handles method handle call deadline seq epoch caller".split()

# [7] A body is its fields in order: b u8, t bool, 4 u32, 8 u64, s string, y bytes, ?4 an option, *Name a sequence, =Name a body.
NAME_INFO = "name:s kind:b mode:b epoch:8 owner:8 owners:4 standby:4 uid:4 pid:4 program:s"
BODIES = {name: [field.split(":") for field in fields.split()] for name, fields in {
    "Hello": "version_min:b version_max:b features:8 program:s",
    "Welcome": "version:b features:8 broker_ns:8 incarnation:4 peer:8 payload_bytes_max:4 calls_open_max:4 priority_max:b",
    "Goodbye": "message:s",
    "Failure": "message:s domain:s code:4 retry_after_ms:4 exit_status:?4 details:y",
    "Open": "name:s kind:b rights:4 on_behalf_of:8", "Opened": "handle:8 rights:4 epoch:8 send_bytes:4",
    "OnHandle": "handle:8", "OnName": "name:s", "OnPattern": "pattern:s", "OnPeer": "peer:8",
    "Narrow": "handle:8 rights:4", "Found": "epoch:8",
    "Serve": "name:s mode:b flags:4 calls:4 send_bytes:4 about:s", "Served": "handle:8 standby:4 epoch:8 reference:8 calls:4 send_bytes:4",
    "NameInfo": NAME_INFO, "NameChange": "what:b info:=NameInfo",
    "List": "pattern:s after:s", "Listing": "names:*NameInfo next:s",
    "ServerInfo": "peer:8 uid:4 pid:4 program:s standby:4 outstanding:4 calls:4",
    "Description": "info:=NameInfo about:s servers:*ServerInfo waiting:4 handles:4",
    "PeerInfo": "peer:8 uid:4 gid:4 groups:*4 pid:4 label:s program:s",
    "Subscribe": "handle:8 pattern:s policy:b messages:4 bytes:4 history:4", "Will": "handle:8 method:4 payload:?y",
    "TopicInfo": "subscriptions:4 sequence:8 held:4 kept:4 kept_bytes:8 retain:t",
    "CreateQueue": "name:s durability:b messages_max:8 bytes_max:8 overflow:b lossy:t deliveries_max:4 dead_letters:s",
    "Created": "existed:t", "Pop": "lease:b lease_ns:8", "LeaseId": "low:8 high:8",
    "Nack": "lease:=LeaseId how:b delay_ns:8", "Extend": "lease:=LeaseId by_ns:8", "Peek": "after:8 count:4",
    "Redrive": "count:4", "Redriven": "moved:8 left:8",
    "DeadLetter": "queue:s position:8 deliveries:4 pushed_wall_ns:8 died_wall_ns:8 reason:s",
    "QueueInfo": "durability:b overflow:b messages_max:8 bytes_max:8 deliveries_max:4 dead_letters:s messages:8 bytes:8 "
                 "ready:8 leased:8 delayed:8 grouped:8 consumers:4 blocked:4 position:8 pushed:8 delivered:8 acked:8 "
                 "dropped:8 expired:8 dead:8 duplicates:8 read_only:s",
    "Raise": "bits:8", "Pulse": "code:4 value:8", "Await": "mask:8 pulses:t", "Raised": "bits:8 pulse:?=Pulse overflow:8",
}.items()}


class Outcome(Exception):
    """How a call ended other than by a reply [4.6]; a handler raises one to end its request [5.5]."""
    def __init__(self, message="", domain="", code=0, retry_after_ms=0, exit_status=None, details=b""):
        super().__init__(message)
        self.failure = Record(message=message, domain=domain, code=code, retry_after_ms=retry_after_ms,
                              exit_status=exit_status, details=details)


OUTCOMES = [type(name, (Outcome,), {"number": n}) for n, name in enumerate(
    "Reply Failed NoOwner Denied Busy DeadlineExceeded Cancelled PeerDied Abandoned ActivationFailed OwnerChanged "
    "HandleRevoked Invalid TooLarge Unsupported ShuttingDown LeaseLost ReadOnly".split())]
globals().update({kind.__name__: kind for kind in OUTCOMES})


class Ended(Exception):
    """The connection is over: the reason [1.8] and what was said with it; None if nothing was."""


class BadFrame(Exception):
    """Broken framing [2.4] or a malformed body [7.1]."""


def check(condition, why):
    if not condition:
        raise BadFrame(why)


def encode(body, **values):
    out = bytearray()
    def varint(n):
        while n > 127:
            out.append(n & 127 | 128)
            n >>= 7
        out.append(n)
    def put(kind, value):
        if kind in "bt": out.append(value)
        elif kind in "48": varint(value)
        elif kind in "sy":
            data = value.encode() if kind == "s" else value
            varint(len(data))
            out.extend(data)
        elif kind[0] == "?":
            out.append(value is not None)
            if value is not None: put(kind[1:], value)
        elif kind[0] == "*":
            varint(len(value))
            for element in value: put(kind[1:] if kind[1:] in "48" else "=" + kind[1:], element)
        else: out.extend(encode(kind[1:], **vars(value)))
    for name, kind in BODIES[body]: put(kind, values.pop(name))
    assert not values, values
    return bytes(out)


def decode(body, data):
    at = 0
    def take(n):
        nonlocal at
        check(n <= len(data) - at, "ends early")
        at += n
        return bytes(data[at - n:at])
    def varint(width):
        value = 0
        for shift in range(0, width * 8, 7):
            byte = take(1)[0]
            value |= (byte & 127) << shift
            if byte < 128:
                check(value < 1 << width * 8, "number too wide")
                return value
        check(False, "number too long")
    def get(kind):
        if kind == "b": return take(1)[0]
        if kind == "t":
            value = take(1)[0]
            check(value < 2, "neither false nor true")
            return value == 1
        if kind in "48": return varint(int(kind))
        if kind == "y": return take(varint(8))
        if kind == "s":
            try: return take(varint(8)).decode()
            except UnicodeDecodeError: check(False, "not UTF-8")
        if kind[0] == "?":
            there = take(1)[0]
            check(there < 2, "neither none nor some")
            return get(kind[1:]) if there else None
        if kind[0] == "*": return [get(kind[1:] if kind[1:] in "48" else "=" + kind[1:]) for _ in range(varint(8))]
        return Record(**{name: get(kind) for name, kind in BODIES[kind[1:]]})
    value = get("=" + body)
    check(at == len(data), "bytes left over")
    return value


def batch(messages):
    """The payload of a frame with BATCH [2.9]; a message is its bytes, or (attribute, bytes)."""
    pairs = [(0, it) if isinstance(it, (bytes, bytearray)) else it for it in messages]
    return b"".join(struct.pack("<II", len(it), attribute) + it + bytes(-len(it) % 8) for attribute, it in pairs)


def parts(payload):
    """The messages of a batch, as (attribute, bytes)."""
    found, at = [], 0
    while at < len(payload):
        check(at + 8 <= len(payload), "a batch ends early")
        length, attribute = struct.unpack_from("<II", payload, at)
        start, at = at + 8, at + 8 + length + -length % 8
        check(at <= len(payload), "a batch ends early")
        found.append((attribute, payload[start:start + length]))
    check(found, "a batch of nothing")
    return found


def push_options(priority=0, ttl=0, delay=0):
    """The value of PUSH [2.5]: seconds here, nanoseconds there."""
    return struct.pack("<B3xQQ", priority, int(ttl * 1e9), int(delay * 1e9))


def extension_value(kind, value):
    """What the value of an extension of topics and queues means [2.5]."""
    if kind == PUSH_OPTIONS:
        check(len(value) == 20 and not any(value[1:4]) and value[0] < 32, "PUSH")
        return struct.unpack("<B3xQQ", value)
    if kind == GROUP: check(1 <= len(value) <= 128, "GROUP")
    if kind == PRODUCER:
        check(len(value) == 16, "PRODUCER")
        return struct.unpack("<QQ", value)
    if kind == QUEUES:
        check(len(value) % 8 == 0 and 1 <= len(value) // 8 <= 15, "QUEUES")
        return struct.unpack(f"<{len(value) // 8}Q", value)
    if kind == DEAD_LETTER: return decode("DeadLetter", value)
    return value


def leases(payload):
    """The leases of an Ack [10.10], as numbers of 128 bits."""
    check(payload and len(payload) % 16 == 0, "leases")
    return [int.from_bytes(payload[at:at + 16], "little") for at in range(0, len(payload), 16)]


def lease_id(lease):
    return Record(low=lease & (1 << 64) - 1, high=lease >> 64)


def pack(kind, payload=b"", extensions=(), handles=(), **fields):
    """The bytes of a frame, padding included [2.1]; `handles` are of (handle, rights, flags)."""
    area = b"".join(struct.pack("<HH", kind_, len(v)) + v + bytes(-len(v) % 4) for kind_, v in extensions)
    area += bytes(-len(area) % 16)
    table = b"".join(struct.pack("<QII", *entry) for entry in handles)
    length = HEADER.size + len(area) + len(table) + len(payload)
    fields = {**dict.fromkeys(FIELDS, 0), "version": 1, **fields, "len": length, "ext_len": len(area), "kind": kind,
              "handles": len(handles)}
    return HEADER.pack(*(fields[name] for name in FIELDS)) + area + table + payload + bytes(-length % 16)


def unpack(data):
    """The first frame of `data` and how many bytes it takes; None while it is not whole."""
    if len(data) < HEADER.size: return None
    frame = Record(**dict(zip(FIELDS, HEADER.unpack_from(data))))
    start = HEADER.size + frame.ext_len + 16 * frame.handles
    check(HELLO <= frame.kind <= GOODBYE or CALL <= frame.kind <= EVENT, "Kind")  # [2.4]; the words are those of tests/vectors
    check(frame.version == 1, "Version")
    check(not frame.flags & ~{CALL: STREAM | NO_WAIT | BATCH, SEND: BATCH, ITEM: BATCH}.get(frame.kind, 0), "Field")
    check(frame.priority <= 7, "Field")
    check(frame.handles <= 16, "Handles")
    check(frame.ext_len <= 4096 and frame.ext_len % 16 == 0, "Extension")
    check(start <= frame.len <= FRAME_MAX, "Length")
    size = frame.len + -frame.len % 16
    if len(data) < size: return None
    frame.extensions, at, end = [], HEADER.size, HEADER.size + frame.ext_len
    while at < end:  # [2.5]
        kind, length = struct.unpack_from("<HH", data, at)
        if kind == 0:
            check(not any(data[at:end]), "Extension")
            break
        after = at + 4 + length + -length % 4
        check(after <= end and not any(data[at + 4 + length:after]), "Extension")
        frame.extensions.append((kind, bytes(data[at + 4:at + 4 + length])))
        at = after
    frame.handles = [struct.unpack_from("<QII", data, at) for at in range(end, start, 16)]
    frame.payload, frame.size = bytes(data[start:frame.len]), size
    return frame, size


class Connection:
    def __init__(self, path, program="python"):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.buffer, self.calls, self.free, self.revoked = bytearray(), {}, [], set()
        self.windows, self.serving, self.requests, self.undelivered = {}, {}, {}, []
        sent = time.monotonic_ns()
        self._write(HELLO, method=0x44425753, payload=encode(
            "Hello", version_min=1, version_max=1, features=0, program=program))
        frame = self._read()
        if frame.kind != WELCOME: self._ended(frame)
        self.welcome = decode("Welcome", frame.payload)
        self.offset = self.welcome.broker_ns - (sent + time.monotonic_ns()) // 2  # [1.6]
        self.fresh, self.generation = iter(range(self.welcome.calls_open_max)), itertools.count(1)

    def close(self):
        self._write(GOODBYE, payload=encode("Goodbye", message=""))
        self.socket.close()

    # Calling

    def start(self, handle, payload=b"", method=0, timeout=None, within=None, then=None, **fields):
        """Begin a call [4.1]; `within` is the request in whose service it is made [4.4]."""
        if timeout is not None:
            fields["deadline"] = time.monotonic_ns() + self.offset + int(timeout * 1e9)
        if within:
            fields["seq"], fields["priority"] = within.call, max(within.priority, fields.get("priority", 0))
            fields["deadline"] = min(filter(None, (within.deadline, fields.get("deadline"))), default=0)
        slot = self.free.pop() if self.free else next(self.fresh, None)
        if slot is None: raise Busy("calls_open_max")
        call = Call(self, handle, (next(self.generation) & 0xffffffff) << 32 | slot, then)  # [4.2]
        self.calls[call.id] = call
        self._write(CALL, handle=handle, call=call.id, payload=payload, **self._method(method), **fields)
        return call

    def call(self, handle, payload=b"", method=0, **options):
        return self.start(handle, payload, method, **options).result()

    def send(self, handle, payload=b"", method=0, tag=0, **fields):
        """A one-way message [4.8]; waits while the send window is used up [4.9]."""
        data = pack(SEND, payload, handle=handle, call=tag, **self._method(method), **fields)
        window = self.windows[handle]
        while window.out * 2 > window.size and window.out + len(data) > window.size: self._turn()
        window.out += len(data)
        self.socket.sendall(data)

    def control(self, operation, request, reply, then=None, timeout=None, **values):
        """An operation of the broker's own [6.1]."""
        done = then and (lambda frame: then(decode(reply, frame.payload)))
        frame = self.call(0, encode(request, **values), operation, timeout=timeout, then=done)
        return decode(reply, frame.payload) if reply else None

    def open(self, name, rights=MAY_CALL, on_behalf_of=0, kind=SERVICE):
        def opened(it): self.windows[it.handle] = Record(size=it.send_bytes, out=0)
        return self.control(OPEN, "Open", "Opened", opened, name=name, kind=kind, rights=rights, on_behalf_of=on_behalf_of)

    def close_handle(self, handle):
        self.control(CLOSE, "OnHandle", None, handle=handle)

    def wait(self, name, timeout=None):
        return self.control(WAIT, "OnName", "Found", name=name, timeout=timeout).epoch

    def list(self, pattern="**"):
        after, names = "", []
        while after or not names:
            page = self.control(LIST, "List", "Listing", pattern=pattern, after=after)
            names, after = names + page.names, page.next
            if not after: return names

    # Topics; `send` publishes without asking what became of it

    def topic(self, name, rights=MAY_PUBLISH | MAY_SUBSCRIBE):
        return self.open(name, rights, kind=TOPIC).handle

    def publish(self, topic, payload=b"", method=0, **options):
        """Publish and be told what became of it [9.3]."""
        it = self.call(topic, payload, method, **options)
        return Record(sequence=it.seq, level=it.method, log_position=it.epoch, subscriptions=it.caller)

    def subscribe(self, topic, policy=DROP_OLDEST, messages=0, bytes=0, history=0, credit=64):
        """The messages of a topic, by its handle, or of those that match a pattern; it is in force [9.4]."""
        handle, pattern = (topic, "") if isinstance(topic, int) else (0, topic)
        body = encode("Subscribe", handle=handle, pattern=pattern, policy=policy, messages=messages, bytes=bytes, history=history)
        return Subscription(self.start(0, body, SUBSCRIBE, flags=STREAM), credit)

    def topic_stat(self, topic):
        return self.control(TOPIC_STAT, "OnHandle", "TopicInfo", handle=topic)

    def will(self, topic, payload, method=0):
        """What is published should this connection end without a goodbye [9.9]; None takes it back."""
        self.control(WILL, "Will", None, handle=topic, method=method, payload=payload)

    # Queues

    def queue(self, name, rights=MAY_PUSH | MAY_POP):
        return self.open(name, rights, kind=QUEUE).handle

    def create_queue(self, name, durability=MEMORY, messages_max=0, bytes_max=0, overflow=0, lossy=False,
                     deliveries_max=0, dead_letters=""):
        """Whether it was there already [10.1]."""
        return self.control(CREATE_QUEUE, "CreateQueue", "Created", name=name, durability=durability, messages_max=messages_max,
                            bytes_max=bytes_max, overflow=overflow, lossy=lossy, deliveries_max=deliveries_max,
                            dead_letters=dead_letters).existed

    def delete_queue(self, name):
        self.control(DELETE_QUEUE, "OnName", None, name=name)

    def push(self, queue, payload=b"", priority=0, ttl=0, delay=0, group=None, producer=None, queues=(), **options):
        """Push a message, or, if it is a list, all its messages as one [10.3]; in a list a message may be (priority,
        bytes), or (priority, n, bytes) for the n-th of `queues`; `producer` is of id and number."""
        extensions = [(PUSH_OPTIONS, push_options(priority, ttl, delay))] if priority or ttl or delay else []
        if group is not None: extensions.append((GROUP, group))
        if producer: extensions.append((PRODUCER, struct.pack("<QQ", *producer)))
        if queues: extensions.append((QUEUES, struct.pack(f"<{len(queues)}Q", *queues)))
        if isinstance(payload, list):
            attributes = [(0, it) if isinstance(it, bytes) else (it[0] | (it[1] << 8 if len(it) == 3 else 0), it[-1]) for it in payload]
            payload, options["flags"] = batch(attributes), options.get("flags", 0) | BATCH
        it = self.start(queue, payload, PUSH, extensions=extensions, **options).result()
        positions = list(struct.unpack(f"<{len(it.payload) // 8}Q", it.payload))
        return Record(position=it.seq, level=it.method, log_position=it.epoch, duplicate=bool(it.caller), positions=positions)

    def pop(self, queue, lease=ATTACHED, lease_time=0, **options):
        """One message, once there is one [10.7]."""
        return popped(self.call(queue, encode("Pop", lease=lease, lease_ns=int(lease_time * 1e9)), POP, **options))

    def consume(self, queue, lease=ATTACHED, lease_time=0):
        """A call whose `items` are messages, each to be `popped`, until it is cancelled [10.7]."""
        return self.start(queue, encode("Pop", lease=lease, lease_ns=int(lease_time * 1e9)), POP, flags=STREAM)

    def ack(self, queue, *taken):
        """Which of these messages' leases were lost [10.10]; the loss of a single one is an exception."""
        it = self.call(queue, b"".join(it.lease.to_bytes(16, "little") for it in taken), ACK)
        check(len(it.payload) == (len(taken) if len(taken) > 1 else 0) and set(it.payload) <= {0, 1}, "an answer to Ack")
        return [message for message, lost in zip(taken, it.payload) if lost]

    def nack(self, queue, message, how=REQUEUE, delay=0):
        self.call(queue, encode("Nack", lease=lease_id(message.lease), how=how, delay_ns=int(delay * 1e9)), NACK)

    def extend(self, queue, message, by):
        self.call(queue, encode("Extend", lease=lease_id(message.lease), by_ns=int(by * 1e9)), EXTEND)

    def peek(self, queue, after=0, count=0):
        call = self.start(queue, encode("Peek", after=after, count=count), PEEK, flags=STREAM)
        messages = [popped(frame) for frame in call.items()]
        call.result()
        return messages

    def purge(self, queue):
        return self.call(queue, method=PURGE).seq

    def queue_stat(self, queue):
        return decode("QueueInfo", self.call(queue, method=STAT).payload)

    def redrive(self, queue, count=0):
        return decode("Redriven", self.call(queue, encode("Redrive", count=count), REDRIVE).payload)

    # Events: flags and pulses

    def signal(self, name, rights=MAY_SIGNAL | MAY_SUBSCRIBE):
        return self.open(name, rights, kind=SIGNAL).handle

    def raise_(self, signal, bits):
        self.call(signal, encode("Raise", bits=bits), RAISE)

    def pulse(self, signal, code, value, priority=0):
        self.call(signal, encode("Pulse", code=code, value=value), PULSE, priority=priority)

    def await_(self, signal, mask=0, pulses=False, **options):
        return decode("Raised", self.call(signal, encode("Await", mask=mask, pulses=pulses), AWAIT, **options).payload)

    # Serving

    def serve(self, name, handler, mode=0, flags=0, calls=16, send_bytes=1 << 16, about=""):
        """Serve a name [5.1]: `handler(request)` gives the reply's payload or raises an `Outcome`; a generator
        streams what it yields and replies with what it returns. What it gives for a one-way message is dropped."""
        def served(it): self.serving[it.handle] = Record(handler=handler, window=it.send_bytes, used=0, **vars(it))
        handle = self.control(SERVE, "Serve", "Served", served, name=name, mode=mode, flags=flags, calls=calls,
                              send_bytes=send_bytes, about=about).handle
        return self.serving[handle]

    def run(self, until=lambda: False, timeout=None):
        """Serve until something holds, for so many seconds, or until the connection ends."""
        end = timeout and time.monotonic() + timeout
        while not until() and (end is None or time.monotonic() < end): self._turn(end)

    def _send(self, frame):
        """A one-way message, or a batch of them: each as if it had come alone, credited as one [2.9]."""
        try: messages = [it for _, it in parts(frame.payload)] if frame.flags & BATCH else [frame.payload]
        except BadFrame: messages = []  # it is dropped
        for message in messages:
            self._request(Record(**{**vars(frame), "payload": message, "flags": frame.flags & ~BATCH}))
        serving = self.serving.get(frame.handle)
        if serving:  # [5.3]
            serving.used += frame.size
            if serving.used * 4 >= serving.window:
                self._write(CREDIT, handle=serving.handle, seq=serving.used)
                serving.used = 0

    def _request(self, request):
        serving, request.connection = self.serving.get(request.handle), self
        request.one_way, request.cancelled, request.credit, request.items = request.kind == SEND, None, 0, None
        request.uid, request.pid, request.peer = request.caller & 0xffffffff, request.caller >> 32, request.seq
        if not request.one_way: self.requests[request.call] = request
        try:
            if serving is None: raise Abandoned("not served here")
            for kind, value in request.extensions:
                if kind == METHOD_NAME: request.method = value.decode()
                elif kind & 0x8000: raise Unsupported(f"extension {kind:#x}")
            reply = serving.handler(request)
            if not request.one_way and inspect.isgenerator(reply):
                if not request.flags & STREAM: raise Unsupported("the reply is a stream")
                request.items, request.ahead = reply, None
                self._stream(request)
            else: self._answer(request, reply)
        except Exception as error: self._refuse(request, error)

    def _stream(self, request):
        """Send the items there is credit for [5.8]; the generator runs one ahead, so that its end needs none."""
        try:
            while request.ahead is None or request.credit:
                if request.ahead is not None:
                    request.credit -= 1
                    self._write(ITEM, call=request.call, payload=request.ahead)
                request.ahead = next(request.items)
        except StopIteration as end: self._answer(request, end.value)
        except Exception as error: self._refuse(request, error)

    def _answer(self, request, reply):
        payload, handles = reply if isinstance(reply, tuple) else (reply or b"", ())
        if self.requests.pop(request.call, None): self._write(REPLY, call=request.call, payload=payload, handles=handles)

    def _refuse(self, request, error):
        if isinstance(error, (Ended, BadFrame, OSError)): raise error
        if not isinstance(error, Outcome): error = Failed(f"{type(error).__name__}: {error}", domain="python")
        if self.requests.pop(request.call, None):
            self._write(OUTCOME, call=request.call, method=error.number, payload=encode("Failure", **vars(error.failure)))

    # Frames

    @staticmethod
    def _method(method):
        return {"method": method} if isinstance(method, int) else {"extensions": [(METHOD_NAME, method.encode())]}

    def _write(self, kind, **parts):
        self.socket.sendall(pack(kind, **parts))

    def _read(self, end=None):
        while not (found := unpack(self.buffer)):
            if not select.select([self.socket], [], [], end and max(0, end - time.monotonic()))[0]: return None
            data = self.socket.recv(1 << 18)
            if not data: raise Ended(None, "the connection was closed")
            self.buffer += data
        frame, size = found
        del self.buffer[:size]
        return frame

    def _ended(self, frame):
        check(frame.kind == GOODBYE, "not a handshake")
        raise Ended(frame.method, decode("Goodbye", frame.payload).message)

    def _turn(self, end=None):
        """Take in one frame, if one comes in time."""
        frame = self._read(end)
        if frame is None: return
        call, request = self.calls.get(frame.call), self.requests.get(frame.call)
        if frame.kind == GOODBYE: self._ended(frame)
        elif frame.kind == CALL: self._request(frame)
        elif frame.kind == SEND: self._send(frame)
        elif frame.kind == ITEM and call: call.arrived.append(frame)
        elif frame.kind in (REPLY, OUTCOME) and call:
            del self.calls[call.id]
            self.free.append(call.id & 0xffffffff)
            call.frame = frame
            if call.then and frame.kind == REPLY: call.then(frame)
        elif frame.kind == CANCEL and request:  # [5.6]; it is still to be ended [5.2]
            request.cancelled = frame.method
            if request.items and not request.items.gi_running:
                request.items.close()
                self._refuse(request, Abandoned("cancelled"))
        elif frame.kind == CREDIT and not frame.call:
            if frame.handle in self.windows: self.windows[frame.handle].out -= frame.seq
        elif frame.kind == CREDIT and request:
            request.credit += frame.seq
            if request.items and not request.items.gi_running: self._stream(request)
        elif frame.kind == EVENT and frame.method == 1:
            self.revoked.add(frame.handle)
        elif frame.kind == EVENT and frame.method in (2, 3) and frame.handle in self.serving:
            serving = self.serving[frame.handle]
            serving.epoch, serving.standby = (frame.epoch, 0) if frame.method == 2 else (0, frame.seq)
        elif frame.kind == EVENT and frame.method == 4:
            self.undelivered.append(Record(handle=frame.handle, tag=frame.call, count=frame.epoch, outcome=frame.seq,
                                           failure=decode("Failure", frame.payload)))


class Call:
    """A call that was begun; it ends exactly once [4.5]."""
    def __init__(self, connection, handle, id, then):
        self.connection, self.handle, self.id, self.then = connection, handle, id, then
        self.frame, self.arrived = None, collections.deque()

    def result(self):
        """The reply's frame, or the outcome as an exception."""
        while self.frame is None: self.connection._turn()
        if self.frame.kind == REPLY: return self.frame
        kind = OUTCOMES[self.frame.method] if 1 <= self.frame.method < len(OUTCOMES) else Failed
        raise kind(**vars(decode("Failure", self.frame.payload)))

    def cancel(self):
        self.connection._write(CANCEL, call=self.id)

    def grant(self, items):
        if self.frame is None: self.connection._write(CREDIT, call=self.id, seq=items)  # [4.11]

    def items(self, credit=4):
        """The frames of a streamed reply, as they come; then `result` tells how the call ended."""
        self.grant(credit)
        while self.arrived or self.frame is None:
            if self.arrived:
                yield self.arrived.popleft()
                self.grant(1)
            else: self.connection._turn()


class Subscription:
    """What comes of a subscription [9.5], in order: records whose `kind` is MESSAGE, EARLIER or LOST."""
    def __init__(self, call, credit):
        self.call, self.waiting = call, collections.deque()
        self.call.grant(credit)
        first = self._item()
        if first is None: self.call.result()  # how it was refused
        check(first.handle == SUBSCRIBED, "not Subscribed")
        self.position = first.epoch

    def _item(self):
        """The next item's frame; None if the subscription has ended."""
        while not self.call.arrived and self.call.frame is None: self.call.connection._turn()
        if not self.call.arrived: return None
        self.call.grant(1)
        return self.call.arrived.popleft()

    def __iter__(self): return self

    def __next__(self):
        while not self.waiting:
            frame = self._item()
            if frame is None: raise StopIteration
            if frame.handle == LOST: self.waiting.append(Record(kind=LOST, first=frame.epoch, last=frame.deadline))
            elif frame.handle in (MESSAGE, EARLIER):
                payloads = [it for _, it in parts(frame.payload)] if frame.flags & BATCH else [frame.payload]
                topic = next((it.decode() for kind, it in frame.extensions if kind == TOPIC_NAME), None)
                self.waiting.extend(Record(
                    kind=frame.handle, position=frame.epoch + at if frame.epoch else 0, sequence=frame.deadline + at,
                    topic=topic, method=frame.method, uid=frame.caller & 0xffffffff, pid=frame.caller >> 32, payload=it,
                    extensions=frame.extensions) for at, it in enumerate(payloads))
        return self.waiting.popleft()

    def take(self, count):
        return list(itertools.islice(self, count))

    def end(self):
        """Cancel it; what had arrived is dropped."""
        self.call.cancel()
        try: self.call.result()
        except Cancelled: return
        check(False, "a cancelled subscription ends Cancelled")


def popped(frame):
    """A message of a queue as it was delivered [10.7]; `lease` is 0 if it has none."""
    found = {kind: extension_value(kind, value) for kind, value in frame.extensions}
    return Record(payload=frame.payload, position=frame.deadline, lease=frame.epoch | frame.caller << 64,
                  deliveries=frame.method & 0xffffff, priority=frame.method >> 24, group=found.get(GROUP),
                  producer=found.get(PRODUCER), dead_letter=found.get(DEAD_LETTER))
