"""Makes and serves calls through a running broker: test_client.py SOCKET. Exits non-zero unless all of it held."""
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
        if vector.error not in (None, "Body"):
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
        if vector.error == "Body":
            frame, _ = switchboard.unpack(vector.bytes)
            try: ends(switchboard.Invalid, client.call, 0, frame.payload, frame.method)
            except AssertionError as error: raise AssertionError(f"{vector.place}: {error}") from None
    assert client.list("test.nobody.**") == []
    client.close()


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
