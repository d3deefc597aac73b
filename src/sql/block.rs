//! The body of DO, looked through for SET and RESET by a tokenizer of its own.
//!
//! DO may do anything in any case, so what is not found here is no loss: it is found so that the names are known.

use super::Dialect;
use super::acts::Acts;
use super::keyword::Keyword;
use super::lexer::Lexer;
use super::setting::{Setting, Step, Verb};
use super::token::{Sink, Token, Wanted};

/// A body that is being read.
#[derive(Debug)]
pub(super) struct Block {
    lexer: Lexer,
    setting: Option<Setting>,
}

struct Reader<'a> {
    setting: &'a mut Option<Setting>,
    acts: &'a mut Acts,
}

impl Block {
    pub(super) fn new(dialect: Dialect) -> Self {
        Self { lexer: Lexer::new(dialect), setting: None }
    }

    pub(super) fn feed(&mut self, bytes: &[u8], acts: &mut Acts) {
        self.lexer.feed(bytes, &mut Reader { setting: &mut self.setting, acts });
    }

    pub(super) fn finish(mut self, acts: &mut Acts) {
        let mut reader = Reader { setting: &mut self.setting, acts };
        self.lexer.finish(&mut reader);
        reader.end();
    }
}

impl Reader<'_> {
    fn end(&mut self) {
        if let Some(setting) = self.setting.take() {
            setting.end(self.acts);
        }
    }
}

impl Sink for Reader<'_> {
    fn token(&mut self, token: &Token<'_>) {
        if token.is(b';') {
            return self.end();
        }
        match self.setting.as_mut().map(|setting| setting.token(token, self.acts)) {
            Some(Step::More) => return,
            Some(Step::Done) => {
                *self.setting = None;
                return;
            }
            Some(Step::Failed) | None => {}
        }
        *self.setting = match token.keyword() {
            Keyword::Set => Some(Setting::new(Verb::Set)),
            Keyword::Reset => Some(Setting::new(Verb::Reset)),
            _ => None,
        };
    }

    fn idles(&self) -> bool {
        self.setting.is_none()
    }

    fn pass(&mut self, _: bool) {}

    fn wanted(&mut self) -> Wanted {
        if self.setting.is_some() { Wanted::Beginning } else { Wanted::Nothing }
    }

    fn content(&mut self, _: &[u8]) {}
}
