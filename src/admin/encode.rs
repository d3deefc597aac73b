//! Rows as messages: values as text or in PostgreSQL's binary formats.
//!
//! Source: `src/backend/utils/adt/numeric.c` (`numeric_send`) for the binary numeric; integers are big-endian.

use bytes::{BufMut, BytesMut};
use pgwire::messages::Message;
use pgwire::messages::data::{DataRow, FieldDescription, RowDescription};

use super::columns::{Cell, Column, Kind};

/// How values are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// As text.
    Text,
    /// In the type's binary format.
    Binary,
}

/// Appends a message; one that pgwire refuses leaves nothing behind.
pub(super) fn put(out: &mut BytesMut, message: &impl Message) {
    let before = out.len();
    if message.encode(out).is_err() {
        out.truncate(before);
    }
}

/// The format of column `index`, of the formats that Bind asked for: none is text, one is for all.
fn format(formats: &[Format], index: usize) -> Format {
    match formats {
        [] => Format::Text,
        [all] => *all,
        each => each.get(index).copied().unwrap_or(Format::Text),
    }
}

/// RowDescription.
pub(super) fn description(columns: &[Column], formats: &[Format]) -> RowDescription {
    let fields = columns.iter().enumerate().map(|(index, column)| {
        let (oid, size) = match column.kind {
            Kind::Text => (25, -1),
            Kind::Int4 => (23, 4),
            Kind::Int8 => (20, 8),
            Kind::Numeric => (1700, -1),
            Kind::Bytea => (17, -1),
        };
        let format = i16::from(format(formats, index) == Format::Binary);
        FieldDescription::new(column.name.to_owned(), 0, 0, oid, size, -1, format)
    });
    RowDescription::new(fields.collect())
}

/// DataRow.
pub(super) fn data_row(columns: &[Column], formats: &[Format], row: &[Cell]) -> DataRow {
    let mut data = BytesMut::new();
    for (index, (column, cell)) in columns.iter().zip(row).enumerate() {
        match (cell, format(formats, index), column.kind) {
            (Cell::Null, ..) => data.put_i32(-1),
            (Cell::Text(text), ..) => value(&mut data, text.as_bytes()),
            (Cell::Count(count), Format::Text, _) | (Cell::Count(count), _, Kind::Text) => {
                value(&mut data, count.to_string().as_bytes());
            }
            (Cell::Count(count), Format::Binary, Kind::Int4) => {
                value(&mut data, &i32::try_from(*count).unwrap_or(i32::MAX).to_be_bytes());
            }
            (Cell::Count(count), Format::Binary, Kind::Int8) => {
                value(&mut data, &i64::try_from(*count).unwrap_or(i64::MAX).to_be_bytes());
            }
            (Cell::Count(count), Format::Binary, Kind::Numeric) => value(&mut data, &numeric(*count)),
            // No table has one.
            (Cell::Count(_), Format::Binary, Kind::Bytea) => data.put_i32(-1),
        }
    }
    DataRow::new(data, i16::try_from(columns.len()).unwrap_or(i16::MAX))
}

fn value(data: &mut BytesMut, bytes: &[u8]) {
    data.put_i32(i32::try_from(bytes.len()).unwrap_or(i32::MAX));
    data.put_slice(bytes);
}

/// The binary numeric of a whole number: count of digits, weight of the first, sign, scale, digits in base 10,000.
/// Zeros at the end are left out, as PostgreSQL does.
fn numeric(mut count: u64) -> Vec<u8> {
    let mut digits = Vec::new();
    let mut weight = -1i16;
    while count > 0 {
        let digit = u16::try_from(count % 10_000).unwrap_or(0);
        if digit != 0 || !digits.is_empty() {
            digits.push(digit);
        }
        weight += 1;
        count /= 10_000;
    }
    let mut out = Vec::with_capacity(8 + 2 * digits.len());
    out.put_u16(u16::try_from(digits.len()).unwrap_or(0));
    out.put_i16(weight.max(0));
    out.put_u16(0);
    out.put_u16(0);
    for digit in digits.iter().rev() {
        out.put_u16(*digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numerics_are_what_postgres_sends() {
        let cases: [(u64, &[u16]); 5] = [
            (0, &[0, 0, 0, 0]),
            (1, &[1, 0, 0, 0, 1]),
            (10_000, &[1, 1, 0, 0, 1]),
            (120_340_000, &[2, 2, 0, 0, 1, 2034]),
            (u64::MAX, &[5, 4, 0, 0, 1844, 6744, 737, 955, 1615]),
        ];
        for (count, words) in cases {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
            assert_eq!(numeric(count), bytes, "{count}");
        }
    }

    #[test]
    fn a_refused_message_leaves_nothing() {
        let mut out = BytesMut::new();
        put(&mut out, &pgwire::messages::response::CommandComplete::new("x".repeat(1 << 20)));
        assert!(out.is_empty());
    }

    proptest! {
        #[test]
        fn numerics_read_back(count: u64) {
            let bytes = numeric(count);
            let words: Vec<u16> = bytes.chunks(2).map(|word| u16::from_be_bytes([word[0], word[1]])).collect();
            let mut sum = 0u128;
            for (index, digit) in (0u32..).zip(&words[4..]) {
                sum += u128::from(*digit) * 10_000u128.pow(u32::from(words[1]) - index);
            }
            prop_assert_eq!(sum, u128::from(count));
            prop_assert_eq!(usize::from(words[0]), words.len() - 4);
        }
    }
}
