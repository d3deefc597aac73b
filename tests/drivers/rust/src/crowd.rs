//! Clients that work in turns, and one more that only holds a backend.
//!
//! A pool lends the backend that came back last, so clients that work one after the other would all use the same one. In
//! every second turn of each client the last one is in a transaction, and so the client gets another backend than in its
//! turn before.

use crate::{Client, Fallible};

#[derive(Debug)]
pub struct Crowd<C> {
    pub clients: Vec<C>,
    pub last: C,
}

impl<C: Client> Crowd<C> {
    pub fn open(size: usize, open: impl Fn() -> Fallible<C>) -> Fallible<Self> {
        let clients = (0..size).map(|_| open()).collect::<Fallible<_>>()?;
        Ok(Self { clients, last: open()? })
    }

    /// While `work` runs a backend is taken.
    pub fn held(&mut self, at: usize, work: impl FnOnce(&mut C) -> Fallible<()>) -> Fallible<()> {
        self.last.run("begin")?;
        self.last.text("select 'held'")?;
        work(&mut self.clients[at])?;
        self.last.run("commit")
    }

    pub fn turns(&mut self, rounds: usize, mut work: impl FnMut(&mut C, usize) -> Fallible<()>) -> Fallible<()> {
        for turn in 0..rounds {
            for number in 0..self.clients.len() {
                if (turn + number) % 2 == 1 {
                    self.held(number, |client| work(client, number))?;
                } else {
                    work(&mut self.clients[number], number)?;
                }
            }
        }
        Ok(())
    }
}
