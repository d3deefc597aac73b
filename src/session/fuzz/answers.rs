//! What the fuzzer's PostgreSQL answers: the order and the kinds of messages are PostgreSQL's, and so is what it skips.

use memchr::memmem;

use super::postgres::{Copying, PREPARED, Portal, Postgres, Request};
use super::token::{Token, tokens};
use crate::wire::sqlstate;
use crate::wire::tag::{back, front};
use crate::wire::view::cstr;
use crate::wire::write::{Report, message, parameter_status};

/// An error: its code and what it says.
type Wrong = (&'static str, &'static str);

const SYNTAX: Wrong = ("42601", "syntax error");
const ABORTED: Wrong = ("25P02", "current transaction is aborted");
const BROKEN: Wrong = ("08P01", "invalid message");

/// What a statement is asked with.
#[derive(Clone, Copy)]
struct Run<'a> {
    text: &'a [u8],
    /// The value of its parameter.
    value: &'a [u8],
    /// It was not part of this request.
    prepared: bool,
    copying: Copying,
}

impl Postgres {
    pub(super) fn answer(&mut self, request: &Request, fails: bool) {
        let Request { tag, body, .. } = request;
        if self.copying != Copying::No {
            self.copy(*tag, fails);
            return;
        }
        if self.skips && *tag != front::SYNC {
            return;
        }
        let result = match *tag {
            front::SYNC => {
                self.skips = false;
                return self.ready();
            }
            front::COPY_DATA | front::COPY_DONE | front::COPY_FAIL | front::FLUSH => return,
            front::QUERY => {
                self.statements.remove(&b""[..]);
                self.portals.remove(&b""[..]);
                let text = body.strip_suffix(b"\0").unwrap_or_default();
                self.script = text.split(|&byte| byte == b';').map(<[u8]>::to_vec).collect();
                while self.script.len() > 1 && self.script.back().is_some_and(|last| last.trim_ascii().is_empty()) {
                    self.script.pop_back();
                }
                if fails || body.contains(&0) && body.iter().position(|&byte| byte == 0) != Some(body.len() - 1) {
                    self.wrong(SYNTAX);
                    self.script.clear();
                    return self.ready();
                }
                return self.go_on();
            }
            front::FUNCTION_CALL => {
                if fails || self.status == b'E' {
                    self.wrong(ABORTED);
                } else {
                    self.say(back::FUNCTION_RESULT, &[0xff; 4]);
                }
                return self.ready();
            }
            _ if fails => Err(SYNTAX),
            front::PARSE => self.parse(body),
            front::BIND => self.bind(body),
            front::DESCRIBE => self.describe(body),
            front::EXECUTE => self.execute(body),
            front::CLOSE => self.close(body),
            _ => Err(BROKEN),
        };
        if let Err(wrong) = result {
            self.wrong(wrong);
            self.skips = true;
        }
    }

    fn ready(&mut self) {
        if self.status == b'I' {
            self.portals.clear();
        }
        self.say(back::READY, &[self.status]);
    }

    fn wrong(&mut self, (code, text): Wrong) {
        if self.status == b'T' {
            self.status = b'E';
        }
        let canceled = std::mem::take(&mut self.canceled);
        self.error(if canceled { "57014" } else { code }, text);
    }

    /// Runs what is left of a Query.
    fn go_on(&mut self) {
        while let Some(text) = self.script.pop_front() {
            let run = Run { text: &text, value: b"", prepared: false, copying: Copying::Simple };
            if let Err(wrong) = self.run(run, true) {
                self.wrong(wrong);
                self.script.clear();
            }
            if self.copying != Copying::No {
                return;
            }
        }
        self.ready();
    }

    fn copy(&mut self, tag: u8, fails: bool) {
        let simple = self.copying == Copying::Simple;
        match tag {
            front::COPY_DATA if !fails => return,
            front::FLUSH | front::SYNC => return,
            front::COPY_DONE if !fails => {
                self.say(back::COMMAND_COMPLETE, b"COPY 1\0");
                self.copying = Copying::No;
                if simple {
                    self.go_on();
                }
                return;
            }
            front::COPY_DATA | front::COPY_DONE | front::COPY_FAIL => {}
            _ => {
                // It has read the type and no more, and does not know how to go on.
                self.wrong(BROKEN);
                Report::fatal(sqlstate::PROTOCOL_VIOLATION, "protocol synchronization was lost").write(&mut self.out);
                self.inbox.clear();
                self.ends = true;
                return;
            }
        }
        self.copying = Copying::No;
        self.wrong(("57014", "COPY from stdin failed"));
        if simple {
            self.script.clear();
            self.ready();
        } else {
            self.skips = true;
        }
    }

    fn parse(&mut self, body: &[u8]) -> Result<(), Wrong> {
        let (name, rest) = cstr(body).ok_or(BROKEN)?;
        let (text, types) = cstr(rest).ok_or(BROKEN)?;
        if types.len() < 2 {
            return Err(BROKEN);
        }
        if self.status == b'E' && !ends_block(text) && !text.trim_ascii().is_empty() {
            return Err(ABORTED);
        }
        if name.is_empty() {
            self.statements.remove(name);
        } else if self.statements.contains_key(name) {
            return Err(("42P05", "prepared statement already exists"));
        }
        if word(text).is_none() || text.contains(&b';') {
            return Err(SYNTAX);
        }
        self.statements.insert(name.to_vec(), text.to_vec());
        self.say(back::PARSE_COMPLETE, b"");
        Ok(())
    }

    fn bind(&mut self, body: &[u8]) -> Result<(), Wrong> {
        let (portal, rest) = cstr(body).ok_or(BROKEN)?;
        let (name, rest) = cstr(rest).ok_or(BROKEN)?;
        let text = self.statements.get(name).cloned().ok_or(("26000", "prepared statement does not exist"))?;
        if self.status == b'E' && !ends_block(&text) && !text.trim_ascii().is_empty() {
            return Err(ABORTED);
        }
        let (formats, rest) = rest.split_first_chunk::<2>().ok_or(BROKEN)?;
        let rest = rest.get(usize::from(u16::from_be_bytes(*formats)) * 2..).ok_or(BROKEN)?;
        let (&count, rest) = rest.split_first_chunk::<2>().ok_or(BROKEN)?;
        if usize::from(u16::from_be_bytes(count)) != parameters(&text) {
            return Err(("08P01", "wrong number of parameters"));
        }
        if !portal.is_empty() && self.portals.contains_key(portal) {
            return Err(("42P03", "portal already exists"));
        }
        self.portals.insert(portal.to_vec(), Portal { text, value: rest.to_vec() });
        self.say(back::BIND_COMPLETE, b"");
        Ok(())
    }

    fn describe(&mut self, body: &[u8]) -> Result<(), Wrong> {
        let (&kind, rest) = body.split_first().ok_or(BROKEN)?;
        let (name, _) = cstr(rest).ok_or(BROKEN)?;
        let text = match kind {
            b'S' => self.statements.get(name).cloned().ok_or(("26000", "prepared statement does not exist"))?,
            b'P' => self.portals.get(name).map(|portal| portal.text.clone()).ok_or(("34000", "no portal"))?,
            _ => return Err(BROKEN),
        };
        if kind == b'S' {
            let count = parameters(&text);
            message(&mut self.out, back::PARAMETER_DESCRIPTION, |out| {
                out.extend_from_slice(&[0, u8::from(count > 0)]);
                out.extend_from_slice(&[0, 0, 0, 25].repeat(count));
            });
        }
        if matches!(word(&text), Some(b"select" | b"execute")) {
            self.columns(1)
        } else {
            self.say(back::NO_DATA, b"")
        }
        Ok(())
    }

    fn execute(&mut self, body: &[u8]) -> Result<(), Wrong> {
        let (name, rest) = cstr(body).ok_or(BROKEN)?;
        let portal = self.portals.get(name).cloned().ok_or(("34000", "no portal"))?;
        if rest.get(..4).is_some_and(|most| most != [0; 4]) && word(&portal.text) == Some(b"select") {
            // The first row of more.
            if self.status == b'E' {
                return Err(ABORTED);
            }
            self.row(&portal.text, &portal.value, true);
            self.say(back::PORTAL_SUSPENDED, b"");
            return Ok(());
        }
        let run = Run { text: &portal.text, value: &portal.value, prepared: true, copying: Copying::Extended };
        self.run(run, false)
    }

    fn close(&mut self, body: &[u8]) -> Result<(), Wrong> {
        let (&kind, rest) = body.split_first().ok_or(BROKEN)?;
        let (name, _) = cstr(rest).ok_or(BROKEN)?;
        match kind {
            b'S' => drop(self.statements.remove(name)),
            b'P' => drop(self.portals.remove(name)),
            _ => return Err(BROKEN),
        }
        self.say(back::CLOSE_COMPLETE, b"");
        Ok(())
    }

    fn columns(&mut self, count: u8) {
        message(&mut self.out, back::ROW_DESCRIPTION, |out| {
            out.extend_from_slice(&[0, count]);
            out.extend_from_slice(&b"c\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0".repeat(usize::from(count)));
        });
    }

    /// A row with the token of the parameter, else of the text.
    fn row(&mut self, text: &[u8], value: &[u8], prepared: bool) {
        let of_value = tokens(value);
        let old = prepared && of_value.is_empty();
        let token = of_value.first().or(tokens(text).first()).copied();
        let token = token.map(Token::text).unwrap_or_default();
        let value = [if old { PREPARED } else { b"" }, token.as_bytes()].concat();
        self.values(&[Some(value)]);
    }

    fn values(&mut self, values: &[Option<Vec<u8>>]) {
        message(&mut self.out, back::DATA_ROW, |out| {
            out.extend_from_slice(&u16::try_from(values.len()).unwrap_or_default().to_be_bytes());
            for value in values {
                let length = value.as_ref().map_or(-1, |value| i32::try_from(value.len()).unwrap_or_default());
                out.extend_from_slice(&length.to_be_bytes());
                out.extend_from_slice(value.as_deref().unwrap_or_default());
            }
        });
    }

    /// Runs one statement. `described`: its columns come before its rows.
    fn run(&mut self, run: Run<'_>, described: bool) -> Result<(), Wrong> {
        let text = run.text.trim_ascii();
        if self.status == b'E' && !ends_block(text) && !text.is_empty() {
            return Err(ABORTED);
        }
        if std::mem::take(&mut self.canceled) {
            return Err(("57014", "canceling statement due to user request"));
        }
        let done: &[u8] = match word(text).ok_or(SYNTAX)? {
            b"" => {
                self.say(back::EMPTY_QUERY, b"");
                return Ok(());
            }
            b"begin" => {
                self.status = b'T';
                b"BEGIN\0"
            }
            b"commit" => {
                let failed = std::mem::replace(&mut self.status, b'I') == b'E';
                if failed { b"ROLLBACK\0" } else { b"COMMIT\0" }
            }
            b"rollback" => {
                self.status = b'I';
                b"ROLLBACK\0"
            }
            b"copy" if memmem::find(text, b"stdin").is_some() => {
                self.say(back::COPY_IN, &[0, 0, 0]);
                self.copying = run.copying;
                return Ok(());
            }
            b"copy" => {
                self.say(back::COPY_OUT, &[0, 0, 0]);
                let token = tokens(text).first().copied().map(Token::text).unwrap_or_default();
                self.say(back::COPY_DATA, token.as_bytes());
                self.say(back::COPY_DONE, b"");
                b"COPY 1\0"
            }
            b"set" => {
                self.set(text);
                b"SET\0"
            }
            b"reset" => {
                self.reset(text);
                b"RESET\0"
            }
            b"discard" if self.status != b'I' => {
                return Err(("25001", "DISCARD ALL cannot run in a transaction block"));
            }
            b"discard" => {
                (self.setting, self.locked) = (None, false);
                self.statements.clear();
                self.portals.clear();
                self.zone(b"UTC");
                b"DISCARD ALL\0"
            }
            b"prepare" => {
                self.prepare(text)?;
                b"PREPARE\0"
            }
            b"deallocate" => self.deallocate(text)?,
            b"execute" => {
                let name = name_behind(text, b"execute").ok_or(SYNTAX)?;
                let text = self.statements.get(name).cloned().ok_or(("26000", "prepared statement does not exist"))?;
                if parameters(&text) > 0 || word(&text) != Some(b"select") {
                    return Err(SYNTAX);
                }
                if described {
                    self.columns(1);
                }
                self.row(&text, b"", true);
                b"SELECT 1\0"
            }
            b"do" => b"DO\0",
            b"unlisten" => b"UNLISTEN\0",
            _ => {
                self.select(run, described);
                b"SELECT 1\0"
            }
        };
        self.say(back::COMMAND_COMPLETE, done);
        Ok(())
    }

    fn select(&mut self, run: Run<'_>, described: bool) {
        let mut values = Vec::new();
        // Questions of the pooler's.
        let mut rest = run.text;
        while let Some(at) = memmem::find(rest, b"pg_catalog.") {
            rest = rest.get(at + 11..).unwrap_or_default();
            if rest.starts_with(b"current_setting(") {
                values.push(if rest.starts_with(b"current_setting('a.b'") { self.setting.clone() } else { None });
            } else if rest.starts_with(b"pg_locks") {
                values.push(Some(if self.locked { b"t".to_vec() } else { b"f".to_vec() }));
            } else if ["pg_class", "pg_cursors", "pg_listening"].iter().any(|name| rest.starts_with(name.as_bytes())) {
                values.push(Some(b"f".to_vec()));
            }
        }
        if values.is_empty() {
            if described {
                self.columns(1);
            }
            self.locked |= memmem::find(run.text, b"pg_advisory_lock").is_some();
            if memmem::find(run.text, b"set_config").is_some() {
                self.set(run.text);
            } else if let (true, Some(token)) = (self.honest, self.current) {
                let set = self.setting.as_deref().map(tokens).unwrap_or_default();
                assert!(set.iter().all(|of| of.is_of(token)), "{token:?} runs with the setting of {set:?}");
            }
            self.row(run.text, run.value, run.prepared);
            return;
        }
        values.push(None);
        if described {
            self.columns(u8::try_from(values.len()).unwrap_or_default());
        }
        self.values(&values);
    }

    fn set(&mut self, text: &[u8]) {
        let value = quoted(text);
        if names_setting(text) {
            let token = tokens(text).last().copied().map(|token| token.text().into_bytes());
            self.setting = token.or(value.map(<[u8]>::to_vec));
        } else if memmem::find(&text.to_ascii_lowercase(), b"timezone").is_some() {
            self.zone(value.unwrap_or_default());
        }
    }

    fn zone(&mut self, value: &[u8]) {
        let value = tokens(value).first().map(|token| token.text().into_bytes());
        parameter_status(&mut self.out, "TimeZone", value.as_deref().unwrap_or(b"UTC"));
    }

    fn reset(&mut self, text: &[u8]) {
        let text = text.to_ascii_lowercase();
        let all = memmem::find(&text, b"all").is_some();
        if all || names_setting(&text) {
            self.setting = None;
        }
        if all || memmem::find(&text, b"timezone").is_some() {
            self.zone(b"");
        }
    }

    fn prepare(&mut self, text: &[u8]) -> Result<(), Wrong> {
        let name = name_behind(text, b"prepare").ok_or(SYNTAX)?;
        let at = memmem::find(text, b" as ").ok_or(SYNTAX)?;
        if self.statements.contains_key(name) {
            return Err(("42P05", "prepared statement already exists"));
        }
        self.statements.insert(name.to_vec(), text.get(at + 4..).unwrap_or_default().to_vec());
        Ok(())
    }

    fn deallocate(&mut self, text: &[u8]) -> Result<&'static [u8], Wrong> {
        let name = name_behind(text, b"deallocate").ok_or(SYNTAX)?;
        if name.eq_ignore_ascii_case(b"all") {
            self.statements.clear();
            return Ok(b"DEALLOCATE ALL\0");
        }
        self.statements.remove(name).ok_or(("26000", "prepared statement does not exist"))?;
        Ok(b"DEALLOCATE\0")
    }
}

/// The first word, of those that are known.
fn word(text: &[u8]) -> Option<&'static [u8]> {
    const WORDS: [&[u8]; 15] = [
        b"select",
        b"begin",
        b"commit",
        b"rollback",
        b"copy",
        b"set",
        b"reset",
        b"discard",
        b"prepare",
        b"deallocate",
        b"execute",
        b"do",
        b"unlisten",
        b"SELECT",
        b"",
    ];
    let text = text.trim_ascii();
    let end = text.iter().position(|byte| !byte.is_ascii_alphabetic()).unwrap_or(text.len());
    let first = text.get(..end)?.to_ascii_lowercase();
    if first.is_empty() && !text.is_empty() {
        return None;
    }
    WORDS.into_iter().find(|word| **word == *first)
}

/// Whether the one setting that it has is named.
fn names_setting(text: &[u8]) -> bool {
    memmem::find(text, b"a.b").or(memmem::find(text, b"\"a\".\"b\"")).is_some()
}

fn ends_block(text: &[u8]) -> bool {
    matches!(word(text), Some(b"commit" | b"rollback"))
}

fn parameters(text: &[u8]) -> usize {
    usize::from(memmem::find(text, b"$1").is_some())
}

fn quoted(text: &[u8]) -> Option<&[u8]> {
    text.split(|&byte| byte == b'\'').nth(1)
}

fn name_behind<'a>(text: &'a [u8], word: &[u8]) -> Option<&'a [u8]> {
    let rest = text.get(word.len()..)?.trim_ascii_start();
    let end = rest.iter().position(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_').unwrap_or(rest.len());
    rest.get(..end).filter(|name| !name.is_empty())
}
