//! A socket whose peer takes nothing for too long is an error: HTTP/1.1 has no other way to end an answer that is not read.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// The socket; writing to it fails when that made no progress for `limit`.
pub(super) struct Stall<T> {
    inner: T,
    limit: Duration,
    /// Set while a write waits.
    over: Option<Pin<Box<Sleep>>>,
}

impl<T> Stall<T> {
    pub(super) fn new(inner: T, limit: Duration) -> Stall<T> {
        Stall {
            inner,
            limit,
            over: None,
        }
    }
}

impl<T: AsyncWrite + Unpin> Stall<T> {
    /// Polls a write, and the clock while it waits.
    fn watch<R>(
        &mut self,
        context: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut T>, &mut Context<'_>) -> Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        if let Poll::Ready(done) = write(Pin::new(&mut self.inner), context) {
            self.over = None;
            return Poll::Ready(done);
        }
        let limit = self.limit;
        let over = self
            .over
            .get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + limit)));
        ready!(over.as_mut().poll(context));
        let message = format!("the client took nothing for {} s", limit.as_secs_f64());
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, message)))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Stall<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Stall<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.watch(context, |inner, context| inner.poll_write(context, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.watch(context, |inner, context| {
            inner.poll_write_vectored(context, slices)
        })
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.watch(context, |inner, context| inner.poll_flush(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.watch(context, |inner, context| inner.poll_shutdown(context))
    }
}

#[cfg(test)]
mod tests {
    use super::Stall;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    #[tokio::test]
    async fn only_a_peer_that_takes_nothing_is_cut_off() {
        let (ours, mut theirs) = duplex(16);
        let mut ours = Stall::new(ours, Duration::from_millis(50));
        let reader = async {
            // Slower in all than the limit, but always going on.
            for _ in 0..4 {
                let mut some = [0; 16];
                theirs.read_exact(&mut some).await.expect("bytes");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let writer = async { ours.write_all(&[1; 64]).await.expect("written") };
        tokio::join!(reader, writer);
        let error = ours.write_all(&[1; 64]).await.expect_err("cut off");
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
        assert!(error.to_string().contains("took nothing"), "{error}");
    }
}
