//! What every command has: the global options, and by them the broker and the output.

use switchboard::{Board, BoardBuilder, Reconnect};
use switchboard_config::Instance;
use switchboard_transport::paths::{Environment, SocketPath};

use crate::arguments::Global;
use crate::failure::Failure;
use crate::output::Output;

/// The global options.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    global: Global,
}

impl Context {
    pub(crate) fn new(global: Global) -> Self {
        Self { global }
    }

    /// Whose broker is meant.
    pub(crate) fn instance(&self) -> Instance {
        if self.global.system { Instance::System } else { Instance::User }
    }

    /// The broker's socket.
    pub(crate) fn socket(&self) -> SocketPath {
        let instance = self.global.system.then_some(Instance::System);
        Environment::from_process().socket(self.global.socket.as_deref(), instance)
    }

    /// Where results go.
    pub(crate) fn output(&self) -> Output {
        Output::new(self.global.json)
    }

    /// Settings of a connection that is not made anew: a broker lost midway ends the command.
    pub(crate) fn builder(&self) -> BoardBuilder {
        Board::builder().socket(self.socket().path).program("switchboard").reconnect(Reconnect::never())
    }

    /// Connects to the broker, or fails with exit status 3.
    pub(crate) fn connect(&self) -> Result<Board, Failure> {
        self.connect_with(self.builder())
    }

    /// The same, with settings made from [`Context::builder`].
    pub(crate) fn connect_with(&self, builder: BoardBuilder) -> Result<Board, Failure> {
        let socket = self.socket();
        // A directory in /tmp that is not ours may hold somebody else's broker.
        socket.check_to_connect().map_err(Failure::no_broker)?;
        builder.connect().map_err(|error| Failure::unreachable(&error, &socket))
    }
}
