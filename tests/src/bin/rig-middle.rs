//! A service in the middle of a chain, as a process of its own: whoever calls one of its names makes
//! it call `leaf.it`, without saying a word about deadline or priority, in as many ways as there are
//! to do work in a handler.
//!
//! ```text
//! rig-middle [--as=UID:GID,GROUP…] SOCKET threads|tasks
//! ```

use std::error::Error;
use std::thread;

use switchboard::{Board, BoardBuilder, CallError, Context, Fault, Payload, Request, Server, tokio as tasks};
use switchboard_tests::rig::arguments_as_user;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = arguments_as_user()?;
    // Without deadlines of its own, nothing but what is inherited ends a call.
    let builder = Board::builder().socket(&arguments[0]).program("middle").no_timeout();
    match arguments[1].as_str() {
        "tasks" => by_tasks(builder),
        _ => by_threads(builder),
    }
}

fn by_threads(builder: BoardBuilder) -> Result<(), Box<dyn Error>> {
    let board = builder.connect()?;
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

/// Two threads, so that a task may go on on another one than it began on.
#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn by_tasks(builder: BoardBuilder) -> Result<(), Box<dyn Error>> {
    let board = tasks::Board::connect_with(builder).await?;
    let of = || board.clone();
    let (one, two, three, four, five) = (of(), of(), of(), of(), of());
    let servers = [
        board.serve("middle.await").start(move |_| leaf_task(one.clone())).await?,
        board
            .serve("middle.await.later")
            .start(move |_| {
                let board = two.clone();
                async move {
                    for _ in 0..20 {
                        tokio::task::yield_now().await;
                    }
                    leaf_task(board).await
                }
            })
            .await?,
        board
            .serve("middle.task")
            .start(move |_| {
                let board = three.clone();
                async move { joined_task(tasks::spawn(leaf_task(board))).await }
            })
            .await?,
        board
            .serve("middle.task.twice")
            .start(move |_| {
                let board = four.clone();
                async move {
                    joined_task(tasks::spawn(
                        async move { joined_task(tasks::spawn(leaf_task(board))).await },
                    ))
                    .await
                }
            })
            .await?,
        // The runtime knows nothing of who spawns whom.
        board
            .serve("middle.bare.task")
            .start(move |_| {
                let board = five.clone();
                async move { joined_task(tokio::spawn(leaf_task(board))).await }
            })
            .await?,
    ];
    servers[0].wait().await?;
    Ok(())
}

async fn leaf_task(board: tasks::Board) -> Result<Payload, Fault> {
    Ok(board.service("leaf.it").call(b"from the middle").await?.into_payload())
}

async fn joined_task<T>(work: tokio::task::JoinHandle<Result<T, Fault>>) -> Result<T, Fault> {
    work.await.map_err(|_| Fault::failed("the task has panicked"))?
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
