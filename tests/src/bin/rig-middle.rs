//! A service in the middle of a chain, as a process of its own: whoever calls one of its names makes
//! it call `leaf.it`, without saying a word about deadline or priority, in as many ways as there are
//! to do work in a handler.
//!
//! ```text
//! rig-middle [--as=UID:GID,GROUP…] SOCKET
//! ```

use std::error::Error;
use std::thread;

use switchboard::{Board, CallError, Context, Fault, Payload, Request, Server};
use switchboard_tests::rig::arguments_as_user;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = arguments_as_user()?;
    // Long enough that nothing but what is inherited ends a call.
    let board = Board::builder().socket(&arguments[0]).program("middle").no_timeout().connect()?;
    let mut servers = vec![
        serve(&board, "middle.direct", |request| leaf(&request.board()))?,
        serve(&board, "middle.spawn", |request| {
            let board = request.board();
            joined(switchboard::spawn(move || leaf(&board)))
        })?,
        serve(&board, "middle.spawn.twice", |request| {
            let board = request.board();
            joined(switchboard::spawn(move || joined(switchboard::spawn(move || leaf(&board)))))
        })?,
        serve(&board, "middle.context", |request| {
            let (board, context) = (request.board(), Context::current());
            joined(thread::spawn(move || {
                let _entered = context.map(Context::enter);
                leaf(&board)
            }))
        })?,
        // Threads know nothing of each other: without the context there is nothing to inherit.
        serve(&board, "middle.bare", |request| {
            let board = request.board();
            joined(thread::spawn(move || leaf(&board)))
        })?,
        board.serve("middle.deferred").start_deferred(|request| {
            thread::spawn(move || {
                let _entered = request.context().enter();
                let outcome = leaf(&request.board());
                request.finish(outcome);
            });
        })?,
    ];
    let last = servers.pop().ok_or("there are servers")?;
    last.wait()?;
    Ok(())
}

/// Several workers, since one call of the middle may wait while another comes.
fn serve(
    board: &Board,
    name: &str,
    handler: impl Fn(&mut Request) -> Result<Payload, Fault> + Send + Sync + 'static,
) -> Result<Server, CallError> {
    board.serve(name).workers(2).start(handler)
}

fn leaf(board: &Board) -> Result<Payload, Fault> {
    Ok(board.service("leaf.it").call(b"from the middle")?.into_payload())
}

fn joined<T>(work: thread::JoinHandle<Result<T, Fault>>) -> Result<T, Fault> {
    work.join().map_err(|_| Fault::failed("the thread has panicked"))?
}
