//! A worker of the demo: takes jobs from a queue and says what it has done, in a process of its own.

use std::time::Duration;

use clap::Args;

use super::messages::STUCK;
use crate::children::READY;
use crate::context::Context;
use crate::failure::Failure;

/// Do the jobs of a queue
#[derive(Args, Debug)]
pub(crate) struct DemoConsumer {
    jobs: String,
    /// Where it says which job it has done.
    done: String,
}

/// Longer than the demo takes.
const STUCK_FOR: Duration = Duration::from_secs(600);

impl DemoConsumer {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let board = context.connect()?;
        let (jobs, done) = (board.queue(&self.jobs), board.queue(&self.done));
        // One at a time, so that nobody waits for what this one has not begun with.
        let mut consumer = jobs.consume().credit(1).start()?;
        let mut output = context.output();
        output.line(READY)?;
        output.finish()?;
        while let Some(job) = consumer.next().transpose()? {
            if job.payload() == STUCK.as_bytes() && job.deliveries() == 1 {
                std::thread::sleep(STUCK_FOR);
            }
            let mut word = format!("{} ", std::process::id()).into_bytes();
            word.extend_from_slice(job.payload());
            done.push(word)?;
            job.ack()?;
        }
        Ok(())
    }
}
