//! A task whose work may panic, and whose caller is told so.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::Fault;

/// A handler's future; a panic in it is a fault.
pub(super) struct Guarded<F>(Pin<Box<F>>);

impl<F> Guarded<F> {
    pub(super) fn new(future: F) -> Self {
        Self(Box::pin(future))
    }
}

impl<F, R> Future for Guarded<F>
where
    F: Future<Output = Result<R, Fault>>,
{
    type Output = Result<R, Fault>;

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        match catch_unwind(AssertUnwindSafe(|| self.0.as_mut().poll(task))) {
            Ok(poll) => poll,
            Err(panic) => Poll::Ready(Err(crate::server::panicked(panic.as_ref()))),
        }
    }
}
