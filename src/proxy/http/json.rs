//! JSON: the writer. Whatever a text is, it is one string of the answer, and nothing that a page could take for markup.

use std::fmt::Write;

/// A text of JSON that is being written. The caller keeps the order: after a field's name comes one value.
#[derive(Debug, Default)]
pub(super) struct Json {
    text: String,
    /// A comma has to come before what follows.
    follows: bool,
}

impl Json {
    pub(super) fn finish(self) -> String {
        self.text
    }

    /// The name of a field, before its value.
    pub(super) fn field(&mut self, name: &str) -> &mut Json {
        self.string(name);
        self.text.push(':');
        self.follows = false;
        self
    }

    pub(super) fn object(&mut self, fields: impl FnOnce(&mut Json)) {
        self.within('{', '}', fields);
    }

    pub(super) fn array<T>(&mut self, items: impl IntoIterator<Item = T>, mut write: impl FnMut(&mut Json, T)) {
        self.within('[', ']', |json| items.into_iter().for_each(|item| write(json, item)));
    }

    pub(super) fn string(&mut self, text: &str) {
        self.begin();
        self.text.push('"');
        for character in text.chars() {
            match character {
                '"' | '\\' => self.text.extend(['\\', character]),
                // Also what ends a line in scripts, and what begins markup.
                '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => self.escape(character),
                character if character.is_control() => self.escape(character),
                character => self.text.push(character),
            }
        }
        self.text.push('"');
    }

    pub(super) fn whole(&mut self, value: impl Into<u64>) {
        self.begin();
        let value: u64 = value.into();
        // Writing to a String cannot fail.
        let _ = write!(self.text, "{value}");
    }

    pub(super) fn real(&mut self, value: f64) {
        self.begin();
        let _ = write!(self.text, "{:.3}", if value.is_finite() { value } else { 0.0 });
    }

    pub(super) fn truth(&mut self, value: bool) {
        self.begin();
        self.text.push_str(if value { "true" } else { "false" });
    }

    fn escape(&mut self, character: char) {
        let _ = write!(self.text, "\\u{:04x}", u32::from(character));
    }

    fn within(&mut self, open: char, close: char, inner: impl FnOnce(&mut Json)) {
        self.begin();
        self.text.push(open);
        self.follows = false;
        inner(self);
        self.text.push(close);
        self.follows = true;
    }

    fn begin(&mut self) {
        if std::mem::replace(&mut self.follows, true) {
            self.text.push(',');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_is_one_string() {
        let mut json = Json::default();
        json.object(|json| {
            json.field("a\"b").string("<script>\\\"&'\n\u{1}\u{2028}ä\u{7f}");
            json.field("n").array([1u32, 2], |json, number| json.whole(number));
            json.field("o").object(|json| {
                json.field("t").truth(true);
                json.field("f").real(1.5);
            });
            json.field("x").real(f64::NAN);
        });
        assert_eq!(
            json.finish(),
            "{\"a\\\"b\":\"\\u003cscript\\u003e\\\\\\\"\\u0026'\\u000a\\u0001\\u2028ä\\u007f\",\"n\":[1,2],\
             \"o\":{\"t\":true,\"f\":1.500},\"x\":0.000}"
        );
    }
}
