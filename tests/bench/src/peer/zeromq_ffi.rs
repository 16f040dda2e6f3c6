//! The few functions of libzmq that are used, found at run time: the bench builds and runs without
//! libzmq, and says so in its table. All unsafe code about ZeroMQ stands here.

use anyhow::{Result, anyhow, bail};
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;

/// Socket types and options of zmq.h, whose numbers are stable.
pub const DEALER: c_int = 5;
/// See [`DEALER`].
pub const ROUTER: c_int = 6;
/// See [`DEALER`].
pub const PULL: c_int = 7;
/// See [`DEALER`].
pub const PUSH: c_int = 8;
const DONTWAIT: c_int = 1;
const SNDMORE: c_int = 2;
const RCVMORE: c_int = 13;

/// libzmq, loaded.
#[derive(Clone, Copy)]
pub struct Library {
    version: unsafe extern "C" fn(*mut c_int, *mut c_int, *mut c_int),
    errno: unsafe extern "C" fn() -> c_int,
    strerror: unsafe extern "C" fn(c_int) -> *const c_char,
    ctx_new: unsafe extern "C" fn() -> *mut c_void,
    socket: unsafe extern "C" fn(*mut c_void, c_int) -> *mut c_void,
    bind: unsafe extern "C" fn(*mut c_void, *const c_char) -> c_int,
    connect: unsafe extern "C" fn(*mut c_void, *const c_char) -> c_int,
    send: unsafe extern "C" fn(*mut c_void, *const c_void, usize, c_int) -> c_int,
    msg_init: unsafe extern "C" fn(*mut Msg) -> c_int,
    msg_recv: unsafe extern "C" fn(*mut Msg, *mut c_void, c_int) -> c_int,
    msg_send: unsafe extern "C" fn(*mut Msg, *mut c_void, c_int) -> c_int,
    msg_data: unsafe extern "C" fn(*mut Msg) -> *mut c_void,
    msg_size: unsafe extern "C" fn(*const Msg) -> usize,
    msg_close: unsafe extern "C" fn(*mut Msg) -> c_int,
    getsockopt: unsafe extern "C" fn(*mut c_void, c_int, *mut c_void, *mut usize) -> c_int,
    proxy: unsafe extern "C" fn(*mut c_void, *mut c_void, *mut c_void) -> c_int,
}

/// zmq_msg_t: 64 opaque bytes, pointer-aligned.
#[repr(C, align(8))]
struct Msg([u8; 64]);

impl Library {
    /// Loads libzmq, if it is installed.
    #[expect(clippy::missing_transmute_annotations, reason = "each field's own type is the annotation")]
    pub fn load() -> Option<Library> {
        // SAFETY: loading a shared library runs its constructors; libzmq's have no requirements.
        let handle = unsafe { libc::dlopen(c"libzmq.so.5".as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        if handle.is_null() {
            return None;
        }
        let find = |name: &CStr| {
            // SAFETY: the handle is open and stays open for ever; the name is a C string.
            let address = unsafe { libc::dlsym(handle, name.as_ptr()) };
            (!address.is_null()).then_some(address)
        };
        macro_rules! function {
            ($name:literal) => {
                // SAFETY: the address is that of the function of this name, and the field's type is its
                // signature in zmq.h of libzmq 4, whose soname 5 promises it.
                unsafe { std::mem::transmute::<*mut c_void, _>(find($name)?) }
            };
        }
        Some(Library {
            version: function!(c"zmq_version"),
            errno: function!(c"zmq_errno"),
            strerror: function!(c"zmq_strerror"),
            ctx_new: function!(c"zmq_ctx_new"),
            socket: function!(c"zmq_socket"),
            bind: function!(c"zmq_bind"),
            connect: function!(c"zmq_connect"),
            send: function!(c"zmq_send"),
            msg_init: function!(c"zmq_msg_init"),
            msg_recv: function!(c"zmq_msg_recv"),
            msg_send: function!(c"zmq_msg_send"),
            msg_data: function!(c"zmq_msg_data"),
            msg_size: function!(c"zmq_msg_size"),
            msg_close: function!(c"zmq_msg_close"),
            getsockopt: function!(c"zmq_getsockopt"),
            proxy: function!(c"zmq_proxy"),
        })
    }

    /// Its version.
    pub fn version(&self) -> String {
        let (mut major, mut minor, mut patch) = (0, 0, 0);
        // SAFETY: three valid pointers to ints.
        unsafe { (self.version)(&mut major, &mut minor, &mut patch) };
        format!("{major}.{minor}.{patch}")
    }

    /// A context; it lives as long as the process, which is killed when it is no longer needed.
    pub fn context(self) -> Context {
        // SAFETY: no arguments; a null result is refused by zmq_socket with EFAULT.
        Context { library: self, context: unsafe { (self.ctx_new)() } }
    }

    fn error(&self, what: &str) -> anyhow::Error {
        // SAFETY: strerror gives a static C string for every number.
        let text = unsafe { CStr::from_ptr((self.strerror)((self.errno)())) };
        anyhow!("{what}: {}", text.to_string_lossy())
    }
}

/// A ZeroMQ context.
pub struct Context {
    library: Library,
    context: *mut c_void,
}

impl Context {
    /// A socket of one type.
    pub fn socket(&self, kind: c_int) -> Result<Socket> {
        // SAFETY: the context is open.
        let socket = unsafe { (self.library.socket)(self.context, kind) };
        if socket.is_null() {
            bail!(self.library.error("zmq_socket"));
        }
        Ok(Socket { library: self.library, socket, message: Msg([0; 64]), held: false })
    }
}

/// A socket, which holds at most one received part. Never closed: its process is killed.
pub struct Socket {
    library: Library,
    socket: *mut c_void,
    message: Msg,
    held: bool,
}

impl Socket {
    /// Listens.
    pub fn bind(&self, address: &str) -> Result<()> {
        let address = CString::new(address)?;
        // SAFETY: an open socket and a C string.
        self.checked(unsafe { (self.library.bind)(self.socket, address.as_ptr()) }, "zmq_bind").map(drop)
    }

    /// Connects, in the background.
    pub fn connect(&self, address: &str) -> Result<()> {
        let address = CString::new(address)?;
        // SAFETY: an open socket and a C string.
        self.checked(unsafe { (self.library.connect)(self.socket, address.as_ptr()) }, "zmq_connect")
            .map(drop)
    }

    /// Sends one message of one part.
    pub fn send(&mut self, message: &[u8]) -> Result<()> {
        // SAFETY: an open socket, and a readable range that libzmq copies before it returns.
        let result = unsafe { (self.library.send)(self.socket, message.as_ptr().cast(), message.len(), 0) };
        self.checked(result, "zmq_send").map(drop)
    }

    /// Receives one part; `None` if `wait` is false and none is there.
    pub fn receive(&mut self, wait: bool) -> Result<Option<&[u8]>> {
        self.release();
        // SAFETY: the message is uninitialised (released above) and the socket is open.
        let result = unsafe {
            (self.library.msg_init)(&mut self.message);
            (self.library.msg_recv)(&mut self.message, self.socket, if wait { 0 } else { DONTWAIT })
        };
        self.held = true;
        // SAFETY: no arguments.
        if result < 0 && !wait && unsafe { (self.library.errno)() } == libc::EAGAIN {
            return Ok(None);
        }
        self.checked(result, "zmq_msg_recv")?;
        // SAFETY: the message is initialised, and its bytes stay until it is released, which needs `&mut self`.
        let part = unsafe {
            std::slice::from_raw_parts(
                (self.library.msg_data)(&mut self.message).cast::<u8>(),
                (self.library.msg_size)(&self.message),
            )
        };
        Ok(Some(part))
    }

    /// Whether the part just received has another behind it.
    pub fn more(&self) -> Result<bool> {
        let (mut more, mut length): (c_int, usize) = (0, size_of::<c_int>());
        // SAFETY: RCVMORE writes one int of the length given.
        let result = unsafe {
            (self.library.getsockopt)(self.socket, RCVMORE, (&raw mut more).cast::<c_void>(), &mut length)
        };
        self.checked(result, "zmq_getsockopt")?;
        Ok(more != 0)
    }

    /// Sends the part just received on, uncopied.
    pub fn send_back(&mut self, more: bool) -> Result<()> {
        assert!(self.held, "a part is held");
        // SAFETY: the message is initialised and the socket open; after success it is empty, still initialised.
        let result = unsafe {
            (self.library.msg_send)(&mut self.message, self.socket, if more { SNDMORE } else { 0 })
        };
        self.checked(result, "zmq_msg_send").map(drop)
    }

    /// Hands messages between the two for ever.
    pub fn proxy(&self, other: &Socket) -> Result<()> {
        // SAFETY: two open sockets of this thread; no capture socket.
        let result = unsafe { (self.library.proxy)(self.socket, other.socket, ptr::null_mut()) };
        self.checked(result, "zmq_proxy").map(drop)
    }

    fn release(&mut self) {
        if std::mem::take(&mut self.held) {
            // SAFETY: the message is initialised.
            unsafe { (self.library.msg_close)(&mut self.message) };
        }
    }

    fn checked(&self, result: c_int, what: &str) -> Result<c_int> {
        if result < 0 { Err(self.library.error(what)) } else { Ok(result) }
    }
}

// Sharing a zmq_msg_t's size with libzmq is what makes `Msg` sound.
const _: () = assert!(size_of::<Msg>() == 64);
