"""Makes and serves calls, publishes, pushes and raises through a running broker: test_client.py SOCKET. It needs
`test.kept` to be configured as a topic that retains and has a history of 3. Exits non-zero unless all of it held.
"""
import faulthandler, os, sys, threading, time, traceback
import switchboard
from switchboard import Connection, Ended, pack
from vectors import read

PATH = sys.argv[1]
MS = 1_000_000


class Server(threading.Thread):
    """Serves names on a connection and a thread of its own until it is stopped."""
    def __init__(self, **names):
        super().__init__(daemon=True)
        self.names, self.stopped, self.ready, self.error = names, False, threading.Event(), None
        self.start()

    def run(self):
        try:
            self.connection = Connection(PATH, "server")
            self.prefix = f"test.p{self.connection.welcome.peer & 0xffffffff}-{self.connection.welcome.peer >> 32}"
            self.serving = {name: self.connection.serve(f"{self.prefix}.{name}", handler) if callable(handler) else
                            self.connection.serve(f"{self.prefix}.{name}", **handler) for name, handler in self.names.items()}
            self.connection.serve(self.prefix + ".stop", self.stop_)
            self.ready.set()
            self.connection.run(until=lambda: self.stopped)
            self.connection.close()
        except Exception as error:
            self.error = error
            self.ready.set()

    def stop_(self, request):
        self.stopped = True

    def __enter__(self):
        self.ready.wait()
        if self.error: raise self.error
        self.client = Connection(PATH, "client")
        return self

    def __exit__(self, *_):
        if not self.stopped: self.client.call(self.open("stop"))
        self.join()
        if self.error: raise self.error
        self.client.close()

    def open(self, name, **options):
        return self.client.open(f"{self.prefix}.{name}", **options).handle


def ends(kind, action, *arguments, **options):
    """The failure of a call that has to end so."""
    try: found = action(*arguments, **options)
    except switchboard.Outcome as outcome:
        assert type(outcome) is kind, f"{kind.__name__} expected, not {type(outcome).__name__}: {outcome}"
        return outcome.failure
    assert False, f"{kind.__name__} expected, not {found}"


def breaks(reason, data, greet=True):
    """Sending that ends the connection, for that reason [1.8]."""
    connection = Connection(PATH) if greet else Connection.__new__(Connection)
    if not greet:
        connection.socket, connection.buffer = switchboard.socket.socket(switchboard.socket.AF_UNIX), bytearray()
        connection.socket.connect(PATH)
    connection.socket.sendall(data)
    try: frame = connection._read()
    except Ended as ended: assert False, f"closed without a word: {ended}"
    assert frame.kind == switchboard.GOODBYE, frame
    assert frame.method == reason, f"reason {frame.method}, not {reason}"
    message = switchboard.decode("Goodbye", frame.payload).message
    assert message or reason == 0
    assert connection.socket.recv(1) == b"", "it says no more"
    connection.socket.close()


def echo(request): return request.payload
def hold(request): request.connection.run(until=lambda: request.cancelled)


def test_handshake():
    one, other = Connection(PATH), Connection(PATH)
    assert one.welcome.version == 1 and one.welcome.features == 0 and one.welcome.incarnation > 0
    assert one.welcome.peer != other.welcome.peer and one.welcome.calls_open_max > 0 and one.welcome.priority_max <= 7
    info = one.control(10, "OnPeer", "PeerInfo", peer=0)
    assert (info.peer, info.uid, info.pid, info.program) == (one.welcome.peer, os.getuid(), os.getpid(), "python"), info
    one.close()
    other.socket.sendall(pack(switchboard.GOODBYE, switchboard.encode("Goodbye", message="")))
    try:
        frame = other._read()
        assert (frame.kind, frame.method) == (switchboard.GOODBYE, 0), frame
        other._read()
    except Ended: return
    assert False, "a clean end is followed by the end of the stream"


def test_echo():
    with Server(echo=echo) as server:
        name = server.client.open(server.prefix + ".echo")
        assert name.rights == switchboard.MAY_CALL and name.epoch == server.serving["echo"].epoch
        assert name.epoch >> 32 == server.client.welcome.incarnation
        for size in (0, 1, 15, 16, 17, 4096, 1 << 20):
            payload = bytes(at * 7 & 255 for at in range(size))
            reply = server.client.call(name.handle, payload)
            assert reply.payload == payload and reply.epoch == name.epoch and reply.handle == name.handle
        calls = [server.client.start(name.handle, b"%d" % at) for at in range(50)]
        assert [call.result().payload for call in reversed(calls)] == [b"%d" % at for at in reversed(range(50))]


def test_what_a_server_is_told():
    def tell(request):
        return repr((request.method, request.priority, request.uid, request.pid, request.peer, request.flags,
                     request.epoch, request.deadline)).encode()
    with Server(tell=tell) as server:
        handle, client = server.open("tell"), server.client
        top = min(5, client.welcome.priority_max)
        deadline = time.monotonic_ns() + client.offset + 60_000 * MS
        told = eval(client.call(handle, b"", 0xfedcba98, priority=top, flags=3, deadline=deadline).payload)
        assert told == (0xfedcba98, top, os.getuid(), os.getpid(), client.welcome.peer, 3, server.serving["tell"].epoch,
                        deadline), told
        assert eval(client.call(handle, b"", "größe").payload)[0] == "größe"
        assert eval(client.call(handle, b"", 7, extensions=[(0x7fff, b"?"), (2, b"00-ab-cd-01")]).payload)[0] == 7


def test_extensions_pass_untouched():
    with Server(tell=lambda request: repr(request.extensions).encode()) as server:
        given = [(2, b"00-ab-cd-01"), (0x7fff, b"?"), (0x8001, b"m")]
        reply = server.client.start(server.open("tell"), extensions=given).result()
        assert eval(reply.payload) == given, reply.payload
        # Critical and unknown: whoever acts on it refuses; the connection lives [2.5].
        ends(switchboard.Unsupported, server.client.call, server.open("tell"), extensions=[(0xffff, b"must")])
        ends(switchboard.Unsupported, server.client.call, 0, method=11, extensions=[(0xffff, b"must")])


def test_failures():
    def fail(request):
        kind, _, message = request.payload.decode().partition(" ")
        if kind == "raise": raise ValueError(message)
        raise getattr(switchboard, kind)(message, "acme", 404, 250, None, b"\0\xff")
    with Server(fail=fail) as server:
        handle, call = server.open("fail"), server.client.call
        for kind in ("Failed", "Denied", "Busy", "Abandoned", "Invalid", "TooLarge", "Unsupported"):
            failure = ends(getattr(switchboard, kind), call, handle, f"{kind} no such picture".encode())
            assert vars(failure) == dict(message="no such picture", domain="acme", code=404, retry_after_ms=250,
                                         exit_status=None, details=b"\0\xff"), failure
        for kind in ("NoOwner", "PeerDied", "OwnerChanged", "ShuttingDown"):  # not a service's to say [5.5]
            ends(switchboard.Failed, call, handle, f"{kind} it lies".encode())
        assert "boom" in ends(switchboard.Failed, call, handle, b"raise boom").message


def test_nobody_serves():
    client = Connection(PATH)
    name = client.open("test.nobody.here")
    assert name.epoch == 0
    failure = ends(switchboard.NoOwner, client.call, name.handle)
    assert "test.nobody.here" in failure.message and failure.domain == "", failure
    ends(switchboard.Invalid, client.open, "No.Name")
    ends(switchboard.Invalid, client.call, 0xdead0000beef)
    ends(switchboard.Unsupported, client.call, 0, method=9999)
    client.close_handle(name.handle)
    ends(switchboard.HandleRevoked, client.call, name.handle)  # given back [3.6]
    client.close()


def test_deadline():
    with Server(hold=lambda request: (why.append(request), hold(request))[1], echo=echo) as server:
        why, client = [], server.client
        hold_, start = server.open("hold"), time.monotonic()
        ends(switchboard.DeadlineExceeded, client.call, hold_, timeout=0.05)
        assert time.monotonic() - start >= 0.05
        server.client.call(server.open("echo"), b"")  # its answer comes after the advice has been taken
        assert [request.cancelled for request in why] == [5]
        ends(switchboard.DeadlineExceeded, client.call, server.open("echo"), timeout=-1)
        assert client.call(server.open("echo"), b"in time", timeout=60).payload == b"in time"


def test_cancel():
    with Server(hold=lambda request: (why.append(request), hold(request))[1], echo=echo) as server:
        why, client = [], server.client
        call = client.start(server.open("hold"))
        client.call(server.open("echo"))
        call.cancel()
        call.cancel()  # of a call that is not open: ignored
        ends(switchboard.Cancelled, call.result)
        client.call(server.open("echo"))
        assert [request.cancelled for request in why] == [6]


def test_streams():
    def count(request):
        """`N`: that many items; `N!`: and then a failure."""
        text = request.payload.decode()
        for at in range(int(text.rstrip("!"))): yield b"%d" % at
        if text.endswith("!"): raise switchboard.Failed("enough")
        return b"end"
    def forever(request):
        try:
            while True: yield b"more"
        finally: closed.append(request.cancelled)
    with Server(count=count, forever=forever, echo=echo) as server:
        closed, client, handle = [], server.client, server.open("count")
        for items, credit in ((0, 1), (1, 1), (2, 1), (10, 3), (10, 20), (300, 7)):
            call = client.start(handle, b"%d" % items, flags=switchboard.STREAM)
            frames = list(call.items(credit))
            assert [frame.payload for frame in frames] == [b"%d" % at for at in range(items)], (items, credit)
            assert [frame.seq for frame in frames] == list(range(1, items + 1))
            assert call.result().payload == b"end"
        assert client.call(handle, b"0", flags=switchboard.STREAM).payload == b"end"  # no credit, no items
        call = client.start(handle, b"3!", flags=switchboard.STREAM)
        assert len(list(call.items())) == 3
        assert ends(switchboard.Failed, call.result).message == "enough"
        ends(switchboard.Unsupported, client.call, handle, b"1")
        call = client.start(server.open("forever"), flags=switchboard.STREAM)
        items = call.items(2)
        assert [next(items).payload, next(items).payload] == [b"more"] * 2
        call.cancel()
        for _ in items: pass
        ends(switchboard.Cancelled, call.result)
        client.call(server.open("echo"))
        assert closed == [6], closed


def test_items_beyond_credit():
    def greedy(request):
        request.connection._write(switchboard.ITEM, call=request.call, payload=b"unasked")
        hold(request)
    with Server(greedy=greedy) as server:
        ends(switchboard.Failed, server.client.call, server.open("greedy"), flags=switchboard.STREAM)


def test_one_way():
    got = []
    with Server(sink=dict(handler=lambda request: got.append((request.payload, request.call, request.uid)),
                          send_bytes=8192), count=lambda request: b"%d" % len(got)) as server:
        handle, client = server.open("sink"), server.client
        sent = [b"%06d" % at + b"." * (at % 900) for at in range(2000)]
        for at, payload in enumerate(sent): client.send(handle, payload, tag=at)
        count = server.open("count")
        while int(client.call(count).payload) < len(sent): assert not client.undelivered, client.undelivered
        assert got == [(payload, 0, os.getuid()) for payload in sent], "all of them, in order"
        window = client.windows[handle]
        # The server may keep a quarter of its window [5.3], the broker one of the sender's.
        client.run(until=lambda: window.out < (8192 + window.size) // 4)
        big = bytes(window.size * 2)  # one message more than the window holds, while half of it is free
        if len(big) < client.welcome.payload_bytes_max:
            client.send(handle, big)
            while int(client.call(count).payload) == len(sent): assert not client.undelivered, client.undelivered
            assert got[-1][0] == big


def test_one_way_to_nobody():
    client = Connection(PATH)
    handle = client.open("test.nobody.here").handle
    client.send(handle, b"lost", tag=77)
    client.run(until=lambda: client.undelivered)
    lost, = client.undelivered
    assert (lost.handle, lost.tag, lost.count, lost.outcome) == (handle, 77, 1, 2), lost
    assert "test.nobody.here" in lost.failure.message
    for tag in range(100): client.send(handle, bytes(client.windows[handle].size // 10), tag=tag)  # its bytes come back
    client.run(until=lambda: client.undelivered[-1].tag == 99)
    client.close()


def test_wait_and_list():
    client = Connection(PATH)
    ends(switchboard.DeadlineExceeded, client.wait, "test.nobody.here", timeout=0.05)
    with Server(one=echo, two=dict(handler=echo, mode=1)) as server:
        name = server.prefix + ".one"
        assert client.wait(name) == server.serving["one"].epoch
        found = {it.name: it for it in client.list(server.prefix + ".*")}
        assert sorted(found) == sorted(f"{server.prefix}.{it}" for it in ("one", "two", "stop")), found
        one = found[name]
        assert (one.kind, one.mode, one.epoch, one.owners, one.standby) == (1, 0, server.serving["one"].epoch, 1, 0), one
        assert (one.uid, one.pid, one.program) == (os.getuid(), os.getpid(), "server"), one
        assert found[server.prefix + ".two"].mode == 1
        assert name in [it.name for it in client.list()]
        about = client.control(9, "OnName", "Description", name=name)
        assert about.info == one and [it.calls for it in about.servers] == [16], about
    late, found = f"test.late.p{client.welcome.peer}", threading.Event()
    def serve_late():
        connection = Connection(PATH)
        connection.serve(late, echo)
        found.wait()
        connection.close()
    thread = threading.Thread(target=serve_late, daemon=True)
    thread.start()
    assert client.wait(late) > 0
    found.set()
    thread.join()
    client.close()


def test_watch():
    client = Connection(PATH)
    body = switchboard.encode("OnPattern", pattern="test.**")
    call = client.start(0, body, 7, flags=switchboard.STREAM)
    changes = (switchboard.decode("NameChange", frame.payload) for frame in call.items(100))
    while next(changes).what != 1: pass  # the end mark of the snapshot
    with Server(one=echo) as server: name = server.prefix + ".one"
    seen = []
    while (name, 3) not in seen:
        change = next(changes)
        seen.append((change.info.name, change.what))
    assert [what for of, what in seen if of == name] == [2, 3], seen
    call.cancel()
    ends(switchboard.Cancelled, call.result)
    client.close()


def test_nested_calls():
    def outer(request):
        connection = request.connection
        inner = connection.open(request.payload.decode()).handle
        # With its id alone the broker sees to the deadline [4.4]; the client sees to it all.
        bare = connection.call(inner, seq=request.call, priority=request.priority, timeout=3600)
        full = connection.call(inner, within=request, timeout=3600)
        assert bare.payload == full.payload, (bare.payload, full.payload)
        return full.payload
    with Server(inner=lambda request: b"%d %d" % (request.deadline, request.priority), outer=outer) as server:
        client = server.client
        deadline, top = time.monotonic_ns() + client.offset + 60_000 * MS, client.welcome.priority_max
        inner = f"{server.prefix}.inner".encode()
        reply = client.call(server.open("outer"), inner, deadline=deadline, priority=top)
        assert reply.payload == b"%d %d" % (deadline, top), reply.payload


def test_a_private_service_is_passed_on():
    def lend(request):
        private = request.connection.serve("", lambda request: b"private " + request.payload)
        assert private.reference
        return b"here", [(private.reference, switchboard.MAY_CALL, 0)]
    with Server(lend=lend) as server:
        reply = server.client.call(server.open("lend"))
        (handle, rights, flags), = reply.handles
        assert handle and rights == switchboard.MAY_CALL, reply.handles
        assert server.client.call(handle, b"call").payload == b"private call"
        # Without the right `delegate` it goes no further [5.7].
        ends(switchboard.Denied, server.client.call, server.open("lend"), handles=[(handle, switchboard.MAY_CALL, 0)])


def test_a_dying_server():
    with Server(die=lambda request: request.connection.socket.shutdown(2)) as server:
        handle, client = server.open("die"), server.client
        ends(switchboard.PeerDied, client.call, handle)
        ends(switchboard.NoOwner, client.call, handle)
        server.join()
        server.stopped = True
        assert isinstance(server.error, (Ended, OSError)), server.error
        server.error = None


def test_standing_by():
    first, second, client = (Connection(PATH) for _ in range(3))
    name = f"test.standby.p{first.welcome.peer}"
    owner, other = first.serve(name, lambda request: b"first"), second.serve(name, lambda request: b"second")
    assert (owner.standby, other.standby, other.epoch) == (0, 1, 0) and owner.epoch > 0
    ends(switchboard.Busy, client.serve, name, echo, flags=4)  # DO_NOT_QUEUE
    handle = client.open(name).handle
    call = client.start(handle, epoch=owner.epoch)
    first._turn()
    assert call.result().payload == b"first"
    first.close_handle(owner.handle)
    second.run(until=lambda: other.epoch)  # EVENT 2
    assert other.epoch > owner.epoch and other.standby == 0
    ends(switchboard.OwnerChanged, client.call, handle, epoch=owner.epoch)
    call = client.start(handle, epoch=other.epoch)
    second._turn()
    assert call.result().payload == b"second"
    for connection in (first, second, client): connection.close()


def test_no_wait():
    with Server(hold=dict(handler=hold, calls=1), echo=echo) as server:
        client, handle = server.client, server.open("hold")
        call = client.start(handle)
        client.call(server.open("echo"))
        ends(switchboard.Busy, client.call, handle, flags=switchboard.NO_WAIT)
        call.cancel()
        ends(switchboard.Cancelled, call.result)


def test_a_slot_in_use():
    with Server(hold=hold, echo=echo) as server:
        client = server.client
        call = client.start(server.open("hold"))
        again = switchboard.Call(client, 0, call.id ^ 1 << 63, None)  # its slot, another generation
        client.calls[again.id] = again
        client._write(switchboard.CALL, handle=server.open("echo"), call=again.id)
        ends(switchboard.Invalid, again.result)
        client.free.remove(again.id & 0xffffffff)
        call.cancel()
        ends(switchboard.Cancelled, call.result)


def test_frames_in_small_pieces():
    with Server(echo=echo) as server:
        client, handle = server.client, server.open("echo")
        call = switchboard.Call(client, handle, 1 << 32 | next(client.fresh), None)
        client.calls[call.id] = call
        for byte in pack(switchboard.CALL, b"piecemeal", [(2, b"x")], handle=handle, call=call.id):
            client.socket.sendall(bytes([byte]))
        assert call.result().payload == b"piecemeal"


def test_broken_framing_ends_the_connection():
    for vector in read():
        if vector.error not in (None, "Batch", "Body", "Leases", "Value"):
            try: breaks(2 if vector.error == "Version" else 1, vector.bytes)
            except AssertionError as error: raise AssertionError(f"{vector.place}: {error}") from None


def test_what_else_ends_a_connection():
    hello = lambda low, high: pack(switchboard.HELLO, switchboard.encode(
        "Hello", version_min=low, version_max=high, features=0, program=""), method=0x44425753)
    breaks(3, hello(1, 1))  # repeated
    breaks(3, pack(switchboard.CALL), greet=False)  # missing
    breaks(3, pack(switchboard.HELLO, b"\1"), greet=False)  # malformed
    breaks(2, hello(2, 9), greet=False)  # no version in common
    breaks(5, pack(switchboard.WELCOME))
    breaks(5, pack(switchboard.EVENT, method=2))


def test_a_client_of_a_later_version_is_met():
    later = Connection.__new__(Connection)
    later.socket, later.buffer = switchboard.socket.socket(switchboard.socket.AF_UNIX), bytearray()
    later.socket.connect(PATH)
    later._write(switchboard.HELLO, method=0x44425753, payload=switchboard.encode(
        "Hello", version_min=1, version_max=200, features=2 ** 64 - 1, program="x" * 300))
    welcome = switchboard.decode("Welcome", later._read().payload)
    assert (welcome.version, welcome.features) == (1, 0), welcome
    later.socket.close()


def test_malformed_bodies_do_not_end_it():
    client = Connection(PATH)
    for vector in read():
        if vector.error == "Body" and vector.file == "malformed-bodies.txt":
            frame, _ = switchboard.unpack(vector.bytes)
            try: ends(switchboard.Invalid, client.call, 0, frame.payload, frame.method, flags=frame.flags)
            except AssertionError as error: raise AssertionError(f"{vector.place}: {error}") from None
    assert client.list("test.nobody.**") == []
    client.close()


def test_a_batch_of_sends_is_taken_apart():
    got = []
    sink = dict(handler=lambda request: got.append((request.payload, request.method, request.flags)), send_bytes=4096)
    with Server(sink=sink, count=lambda request: b"%d" % len(got)) as server:
        handle, count, client = server.open("sink"), server.open("count"), server.client
        sent = [b"%04d" % at + b"." * (at % 50) for at in range(3000)]
        for at in range(0, len(sent), 10):
            client.send(handle, switchboard.batch(sent[at:at + 10]), method=9, flags=switchboard.BATCH)
        while int(client.call(count).payload) < len(sent): assert not client.undelivered, client.undelivered
        assert got == [(payload, 9, 0) for payload in sent], "all of them, in order, and each alone"
        client.send(handle, b"not a batch", flags=switchboard.BATCH)  # its server drops it [2.9]
        client.send(handle, b"the next", method=9)
        while int(client.call(count).payload) == len(sent): assert not client.undelivered, client.undelivered
        assert got[len(sent):] == [(b"the next", 9, 0)]
        ends(switchboard.Unsupported, client.call, count, switchboard.batch([b"?"]), flags=switchboard.BATCH)


def fresh(what, client):
    """A name of its own for what a test makes."""
    return f"test.{what}.p{client.welcome.peer & 0xffffffff}-{client.welcome.peer >> 32}"


def covers(found, first, last):
    """Messages and losses account for every position, in order; the positions of the messages."""
    expected, seen = first, []
    for it in found:
        if it.kind == switchboard.LOST:
            assert it.first == expected <= it.last, (it, expected)
            expected = it.last + 1
        else:
            assert it.position == expected, (it, expected)
            seen.append(it.position)
            expected += 1
    assert expected == last + 1, (expected, last)
    return seen


def until(subscription, last):
    """What comes up to that position."""
    found = []
    for it in subscription:
        found.append(it)
        if (it.last if it.kind == switchboard.LOST else it.position) >= last: return found
    assert False, "the subscription ended"


def test_topics():
    one, other = Connection(PATH), Connection(PATH)
    name = fresh("topic", one)
    topic, heard = one.topic(name), other.topic(name, switchboard.MAY_SUBSCRIBE)
    told = one.publish(topic, b"nobody hears it")
    assert (told.sequence, told.level, told.subscriptions) == (1, switchboard.MEMORY, 0), told
    by_handle, by_pattern = other.subscribe(heard), other.subscribe(name.rpartition(".")[0] + ".*")
    assert (by_handle.position, by_pattern.position) == (1, 0), (by_handle.position, by_pattern.position)
    one.send(topic, b"one way", method=7)
    one.send(topic, switchboard.batch([b"a", b"", b"ccc"]), method=8, flags=switchboard.BATCH)
    told = one.publish(topic, b"asked", method=9)
    assert (told.sequence, told.subscriptions) == (6, 2), told
    told = one.publish(topic, switchboard.batch([b"x", b"y"]), flags=switchboard.BATCH)
    assert (told.sequence, told.subscriptions) == (8, 2), "the last of a batch"
    sent = [(b"one way", 7), (b"a", 8), (b"", 8), (b"ccc", 8), (b"asked", 9), (b"x", 0), (b"y", 0)]
    for subscription, first, named in ((by_handle, 2, None), (by_pattern, 1, name)):
        found = subscription.take(7)
        assert [(it.payload, it.method) for it in found] == sent, found
        assert [(it.kind, it.position, it.sequence, it.topic, it.uid, it.pid) for it in found] == [
            (switchboard.MESSAGE, first + at, 2 + at, named, os.getuid(), os.getpid()) for at in range(7)], found
    stat = one.topic_stat(topic)
    assert (stat.subscriptions, stat.sequence, stat.held, stat.kept, stat.retain) == (2, 8, 0, 0, False), stat
    by_handle.end()
    assert one.publish(topic, b"one hears it").subscriptions == 1
    ends(switchboard.Denied, other.publish, heard, b"without the right")
    ends(switchboard.Invalid, one.open, name)  # it is no service [3.4]
    found = {it.name: it for it in one.list(name)}
    assert found[name].kind == switchboard.TOPIC and found[name].epoch == 0, found
    for connection in (one, other): connection.close()


def test_a_topic_keeps_the_order_of_a_publisher():
    one, other = Connection(PATH), Connection(PATH)
    topic = one.topic(fresh("topic", one))
    subscription = other.subscribe(other.topic(fresh("topic", one)), messages=10_000)
    for at in range(2000): one.send(topic, b"%d" % at)
    assert [it.payload for it in subscription.take(2000)] == [b"%d" % at for at in range(2000)]
    for connection in (one, other): connection.close()


def test_what_becomes_of_slow_subscribers():
    for policy in (switchboard.DROP_OLDEST, switchboard.LATEST):
        one, other = Connection(PATH), Connection(PATH)
        topic = one.topic(fresh("slow", one))
        subscription = other.subscribe(other.topic(fresh("slow", one)), policy=policy, messages=4, credit=1)
        for at in range(20): one.publish(topic, b"%d" % (at + 1))
        found = until(subscription, 20)
        seen = covers(found, 1, 20)
        assert seen[-1] == 20 and len(seen) <= 6, seen
        assert [it.payload for it in found if it.kind != switchboard.LOST] == [b"%d" % at for at in seen]
        if policy == switchboard.LATEST: assert len(seen) <= 3, seen
        for connection in (one, other): connection.close()


def test_a_publisher_waits_for_a_subscriber_that_may_ask_it_to():
    one, other = Connection(PATH), Connection(PATH)
    topic = one.topic(fresh("block", one))
    subscription = other.subscribe(other.topic(fresh("block", one)), policy=switchboard.BLOCK, messages=1, credit=1)
    one.publish(topic, b"1")  # for its credit
    one.publish(topic, b"2")  # for its queue
    ends(switchboard.DeadlineExceeded, one.publish, topic, b"is not published", timeout=0.05)
    call = one.start(topic, b"3")
    assert [it.payload for it in subscription.take(3)] == [b"1", b"2", b"3"]
    assert call.result().seq == 3
    for connection in (one, other): connection.close()


def test_a_subscriber_that_wants_all_or_nothing():
    one, other = Connection(PATH), Connection(PATH)
    topic = one.topic(fresh("strict", one))
    subscription = other.subscribe(other.topic(fresh("strict", one)), policy=switchboard.DISCONNECT, messages=2, credit=1)
    for _ in range(8): one.publish(topic, b"too fast")
    assert all(it.payload == b"too fast" for it in subscription)
    ends(switchboard.Busy, subscription.call.result)
    assert one.publish(topic, b"gone").subscriptions == 0
    for connection in (one, other): connection.close()


def test_earlier_messages():
    client = Connection(PATH)
    topic = client.topic("test.kept")
    first = client.publish(topic, b"1").sequence
    for at in range(2, 6): client.publish(topic, b"%d" % at)
    for history, kept in ((0, []), (1, [b"5"]), (2, [b"4", b"5"]), (1000, [b"3", b"4", b"5"])):
        for source in (topic, "test.kept"):
            subscription = client.subscribe(source, history=history)
            client.publish(topic, b"5")  # so that what is kept does not change what the latest one is
            found = subscription.take(len(kept) + 1)
            assert [it.kind for it in found] == [switchboard.EARLIER] * len(kept) + [switchboard.MESSAGE], found
            if history <= 1: assert [it.payload for it in found] == kept + [b"5"], found
            assert all(it.sequence >= first for it in found)
            if source != topic: assert [it.position for it in found[:-1]] == [0] * len(kept), found
            subscription.end()
    stat = client.topic_stat(topic)
    assert (stat.kept, stat.retain) == (3, True) and stat.kept_bytes >= 3, stat
    client.close()


def test_a_will():
    heir, tidy = Connection(PATH), Connection(PATH)
    name = fresh("will", heir)
    subscription = heir.subscribe(heir.topic(name))
    lost = Connection(PATH)
    lost.will(lost.topic(name), b"it was not clean", method=5)
    tidy.will(tidy.topic(name), b"it was clean")
    tidy.close()
    changed = Connection(PATH)
    handle = changed.topic(name)
    changed.will(handle, b"?")
    changed.will(handle, None)
    changed.socket.close()
    lost.socket.close()
    found = until_payload(subscription, b"it was not clean")
    assert b"?" not in found and b"it was clean" not in found, found
    heir.close()


def until_payload(subscription, last):
    found = []
    for it in subscription:
        found.append(it.payload)
        if it.payload == last: return found
    assert False, "the subscription ended"


def made(client, **settings):
    """A queue of its own, and its handle."""
    made.count += 1
    name = f"{fresh('queue', client)}-{made.count}"
    assert client.create_queue(name, **settings) is False
    return name, client.queue(name)


made.count = 0


def test_queues():
    one, other = Connection(PATH), Connection(PATH)
    ends(switchboard.NoOwner, one.queue, "test.queue.nowhere")
    name, queue = made(one)
    assert one.create_queue(name) is True
    ends(switchboard.Invalid, one.create_queue, name, messages_max=7)  # it is there, and not so [10.1]
    told = [one.push(queue, b"%d" % at) for at in range(3)]
    assert [it.position for it in told] == list(range(told[0].position, told[0].position + 3)), told
    assert {(it.level, it.duplicate) for it in told} == {(switchboard.MEMORY, False)}, told
    theirs = other.queue(name, switchboard.MAY_POP)
    ends(switchboard.Denied, other.push, theirs, b"without the right")
    message = other.pop(theirs)
    assert (message.payload, message.position, message.deliveries, message.priority) == (b"0", told[0].position, 1, 0), message
    assert message.lease and message.dead_letter is None
    stat = one.queue_stat(queue)
    assert (stat.messages, stat.ready, stat.leased, stat.pushed, stat.delivered, stat.position) == (3, 2, 1, 3, 1, told[2].position), stat
    assert (stat.messages_max, stat.bytes_max, stat.deliveries_max, stat.read_only) == (10_000, 64 << 20, 16, ""), stat
    assert other.ack(theirs, message) == []
    ends(switchboard.LeaseLost, other.ack, theirs, message)
    two = [other.pop(theirs), other.pop(theirs)]
    assert other.ack(theirs, two[0], message, two[1]) == [message]
    ends(switchboard.DeadlineExceeded, other.pop, theirs, timeout=0.05)
    waiting = other.start(theirs, switchboard.encode("Pop", lease=0, lease_ns=0), switchboard.POP)
    one.push(queue, b"late")
    assert waiting.result().payload == b"late"
    found = {it.name: it for it in one.list(name)}
    assert found[name].kind == switchboard.QUEUE, found
    one.delete_queue(name)
    ends(switchboard.HandleRevoked, one.push, queue, b"gone")
    ends(switchboard.NoOwner, one.queue, name)
    for connection in (one, other): connection.close()


def test_priorities_and_batches():
    client = Connection(PATH)
    name, queue = made(client)
    _, second = made(client)
    for at, priority in enumerate((0, 5, 31, 5)): client.push(queue, b"%d" % at, priority=priority)
    told = client.push(queue, [b"4", (31, b"5"), (5, b"6")])
    ends(switchboard.Invalid, client.push, queue, b"?", priority=32)
    ends(switchboard.Invalid, client.push, queue, [(32, b"?")])
    found = [client.pop(queue) for _ in range(7)]
    assert [it.payload for it in found] == [b"2", b"5", b"1", b"3", b"6", b"0", b"4"], found
    assert [it.priority for it in found] == [31, 31, 5, 5, 5, 0, 0], found
    assert sorted(it.position for it in found)[4:] == [told.position, told.position + 1, told.position + 2]
    told = client.push(queue, [(0, 1, b"there"), (0, 0, b"here"), (3, 1, b"there too")], queues=[second])
    assert len(told.positions) == 3 and told.positions[2] == told.positions[0] + 1, told
    assert (client.pop(queue).payload, [client.pop(second).payload for _ in range(2)]) == (b"here", [b"there too", b"there"])
    _, small = made(client, messages_max=1)
    ends(switchboard.TooLarge, client.push, queue, [(0, 0, b"?"), (0, 1, b"?"), (0, 1, b"?")], queues=[small])  # all or nothing
    assert client.queue_stat(queue).ready == 0 and client.queue_stat(small).messages == 0
    client.close()


def test_leases():
    one, other = Connection(PATH), Connection(PATH)
    name, queue = made(one, deliveries_max=2)
    one.push(queue, b"1")
    one.push(queue, b"2")
    message = one.pop(queue)
    one.nack(queue, message)  # back to its place, not counted
    again = one.pop(queue)
    assert (again.payload, again.deliveries) == (b"1", 1) and again.lease != message.lease, again
    ends(switchboard.LeaseLost, one.extend, queue, message, 10)
    one.extend(queue, again, 60)
    theirs = other.queue(name)
    other.nack(theirs, again, how=switchboard.FAIL)  # any connection of the same user may [10.9]
    third = one.pop(queue)
    assert (third.payload, third.deliveries) == (b"1", 2), third
    one.nack(queue, third, how=switchboard.FAIL)  # as often as it may be delivered: it is dead
    assert one.pop(queue).payload == b"2"
    dead = one.queue(name + ".dead")
    letter = one.pop(dead)
    origin = letter.dead_letter
    assert (letter.payload, origin.queue, origin.position, origin.deliveries) == (b"1", name, message.position, 2), letter
    assert origin.reason and origin.pushed_wall_ns <= origin.died_wall_ns
    one.nack(dead, letter)
    assert vars(one.redrive(dead)) == dict(moved=1, left=0)
    assert one.pop(queue).payload == b"1"
    one.push(queue, b"3")
    short = one.pop(queue, lease=switchboard.DETACHED, lease_time=0.02)
    back = one.pop(queue)  # once its lease has run out
    assert (short.payload, back.payload) == (b"3", b"3") and back.lease != short.lease
    ends(switchboard.LeaseLost, one.ack, queue, short)
    one.ack(queue, back)
    for connection in (one, other): connection.close()


def test_a_consumer():
    one, other = Connection(PATH), Connection(PATH)
    name, queue = made(one)
    theirs = other.queue(name)
    consumer = other.consume(theirs)
    for at in range(100): one.push(queue, b"%d" % at)
    found = []
    for frame in consumer.items(10):
        message = switchboard.popped(frame)
        found.append(message.payload)
        other.ack(theirs, message)
        if len(found) == 100: break
    assert found == [b"%d" % at for at in range(100)]
    consumer.cancel()
    while consumer.frame is None: other._turn()
    ends(switchboard.Cancelled, consumer.result)
    one.push(queue, b"not acknowledged")
    held = other.pop(theirs, lease_time=0.02)
    other.close()  # its lease was attached to it [10.9]
    assert one.pop(queue).payload == held.payload
    consumed = one.consume(queue, lease=switchboard.CONSUMED)
    one.push(queue, b"consumed")
    message = switchboard.popped(next(consumed.items(1)))
    assert (message.payload, message.lease) == (b"consumed", 0), message
    one.close()


def test_full_queues():
    client = Connection(PATH)
    _, queue = made(client, messages_max=2)
    for at in range(2): client.push(queue, b"%d" % at)
    assert "2" in ends(switchboard.Busy, client.push, queue, b"one too many").message
    _, queue = made(client, messages_max=2, overflow=1)
    for at in range(4): client.push(queue, b"%d" % at)
    assert [client.pop(queue).payload for _ in range(2)] == [b"2", b"3"]
    assert client.queue_stat(queue).dropped == 2
    _, queue = made(client, messages_max=1, overflow=2)
    client.push(queue, b"0")
    ends(switchboard.DeadlineExceeded, client.push, queue, b"waits in vain", timeout=0.05)
    call = client.start(queue, b"1", switchboard.PUSH)
    assert client.ack(queue, client.pop(queue)) == []
    call.result()
    assert client.pop(queue).payload == b"1"
    ends(switchboard.Invalid, made, client, durability=switchboard.DISK, overflow=1)  # not without `lossy` [10.5]
    client.close()


def test_time_to_live_and_delay():
    client = Connection(PATH)
    _, queue = made(client)
    client.push(queue, b"expired", ttl=0.000_001)
    start = time.monotonic()
    client.push(queue, b"later", delay=0.05)
    message = client.pop(queue)
    assert message.payload == b"later" and time.monotonic() - start >= 0.045, message
    assert client.queue_stat(queue).expired == 1
    client.close()


def test_ordered_groups():
    client = Connection(PATH)
    _, queue = made(client)
    for at in range(2): client.push(queue, b"a%d" % at, group=b"a")
    client.push(queue, b"b0", group=b"b")
    first, other = client.pop(queue), client.pop(queue)
    assert (first.payload, first.group, other.payload) == (b"a0", b"a", b"b0"), (first, other)
    stat = client.queue_stat(queue)
    assert (stat.ready, stat.grouped) == (0, 1), stat
    client.nack(queue, first)
    again = client.pop(queue)
    assert again.payload == b"a0"
    client.ack(queue, again)
    assert client.pop(queue).payload == b"a1"
    client.close()


def test_a_producer_pushes_once():
    client = Connection(PATH)
    _, queue = made(client)
    first = client.push(queue, b"1", producer=(77, 10))
    again = client.push(queue, b"1", producer=(77, 10))
    assert (again.duplicate, again.position) == (True, first.position), again
    assert not client.push(queue, [b"2", b"3"], producer=(77, 11)).duplicate
    assert client.push(queue, b"3", producer=(77, 12)).duplicate
    earlier = client.push(queue, b"1", producer=(77, 10))
    assert (earlier.duplicate, earlier.position) == (True, 0), earlier
    assert not client.push(queue, b"other", producer=(78, 10)).duplicate
    assert [it.payload for it in client.peek(queue)] == [b"1", b"2", b"3", b"other"]
    assert client.queue_stat(queue).duplicates == 3
    client.close()


def test_peek_and_purge():
    client = Connection(PATH)
    _, queue = made(client)
    positions = [client.push(queue, b"%d" % at, priority=at).position for at in range(5)]
    assert client.pop(queue).payload == b"4"
    found = client.peek(queue)
    assert [(it.payload, it.position, it.priority, it.lease) for it in found] == [
        (b"%d" % at, positions[at], at, 0) for at in range(5)], found
    assert [it.deliveries for it in found] == [0, 0, 0, 0, 1]
    assert [it.payload for it in client.peek(queue, after=positions[1], count=2)] == [b"2", b"3"]
    assert client.purge(queue) == 4
    assert client.queue_stat(queue).messages == 1
    client.close()


def test_durable_queues():
    client = Connection(PATH)
    for level in (switchboard.OS, switchboard.DISK):
        _, queue = made(client, durability=level)
        first, second = client.push(queue, b"1"), client.push(queue, [b"2", b"3"])
        assert first.level == second.level == level and 0 < first.log_position < second.log_position, (first, second)
        assert client.ack(queue, client.pop(queue)) == []
        assert client.queue_stat(queue).durability == level
    client.close()


def test_malformed_contents_do_not_end_it():
    client = Connection(PATH)
    (_, queue), signal = made(client), client.signal(fresh("signal", client))
    for vector in read():
        if vector.file != "malformed-contents.txt": continue
        frame, _ = switchboard.unpack(vector.bytes)
        handle = signal if frame.handle == 0x2d0000001d else queue
        call = client.start(handle, frame.payload, frame.method, flags=frame.flags, extensions=frame.extensions)
        try: ends(switchboard.Invalid, call.result)
        except AssertionError as error: raise AssertionError(f"{vector.place}: {error}") from None
    assert client.queue_stat(queue).messages == 0
    client.send(queue, b"one way")
    client.run(until=lambda: client.undelivered)
    assert client.undelivered[0].outcome == switchboard.Unsupported.number  # [10.2]
    client.close()


def test_events():
    one, other = Connection(PATH), Connection(PATH)
    name = fresh("signal", one)
    signal, theirs = one.signal(name), other.signal(name, switchboard.MAY_SUBSCRIBE)
    one.raise_(signal, 0b1011)
    one.raise_(signal, 0b0010)
    assert vars(other.await_(theirs, 0b0110)) == dict(bits=0b0010, pulse=None, overflow=0)
    ends(switchboard.DeadlineExceeded, other.await_, theirs, 0b0110, timeout=0.05)
    assert other.await_(theirs, 2 ** 64 - 1).bits == 0b1001
    ends(switchboard.Denied, other.raise_, theirs, 1)
    ends(switchboard.Invalid, one.raise_, signal, 0)
    ends(switchboard.Invalid, one.await_, signal, 0)
    waiting = other.start(theirs, switchboard.encode("Await", mask=1 << 63, pulses=True), switchboard.AWAIT)
    one.send(signal, switchboard.encode("Raise", bits=1 << 63), switchboard.RAISE)
    assert switchboard.decode("Raised", waiting.result().payload).bits == 1 << 63
    top = one.welcome.priority_max
    for value, priority in enumerate((0, top, 0, top)): one.pulse(signal, 7, value, priority)
    one.send(signal, switchboard.encode("Pulse", code=8, value=4), switchboard.PULSE)
    one.raise_(signal, 1)
    assert vars(other.await_(theirs, 1, pulses=True)) == dict(bits=1, pulse=None, overflow=0), "flags come first"
    found = [other.await_(theirs, 1, pulses=True).pulse for _ in range(5)]
    assert sorted((it.code, it.value) for it in found) == [(7, 0), (7, 1), (7, 2), (7, 3), (8, 4)], found
    if top: assert [it.value for it in found] == [1, 3, 0, 2, 4], found
    for at in range(1024): one.pulse(signal, 0, at)
    for _ in range(3): ends(switchboard.Busy, one.pulse, signal, 0, 0)
    assert [other.await_(theirs, pulses=True).overflow for _ in range(2)] == [3, 0]
    for connection in (one, other): connection.close()


def main():
    faulthandler.dump_traceback_later(300, exit=True)
    passed = failed = 0
    for name, test in [it for it in globals().items() if it[0].startswith("test_")]:
        try:
            test()
            passed += 1
        except Exception:
            failed += 1
            print(f"--- {name}\n{traceback.format_exc()}", file=sys.stderr)
    print(f"{passed} passed, {failed} failed")
    return failed != 0 or passed == 0


if __name__ == "__main__": sys.exit(main())
