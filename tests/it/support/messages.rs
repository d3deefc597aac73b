//! Frontend messages as bytes (chapter 55.7 of PostgreSQL's manual). Nothing here checks sense: tests also send nonsense.

/// Protocol 3.0, as in the startup packet.
pub(crate) const PROTOCOL_3_0: u32 = 3 << 16;
pub(crate) const CANCEL_REQUEST_CODE: u32 = (1234 << 16) | 5678;
pub(crate) const SSL_REQUEST_CODE: u32 = (1234 << 16) | 5679;
pub(crate) const GSS_REQUEST_CODE: u32 = (1234 << 16) | 5680;

/// A message with its tag and the right length.
pub(crate) fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    bytes.extend_from_slice(&untagged(body));
    bytes
}

/// A packet without a tag: length, then body.
pub(crate) fn untagged(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("a short message");
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend_from_slice(body);
    bytes
}

pub(crate) fn startup(version: u32, parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    for (name, value) in parameters {
        body.extend_from_slice(&cstr(name));
        body.extend_from_slice(&cstr(value));
    }
    body.push(0);
    untagged(&body)
}

pub(crate) fn ssl_request() -> Vec<u8> {
    untagged(&SSL_REQUEST_CODE.to_be_bytes())
}

pub(crate) fn gss_request() -> Vec<u8> {
    untagged(&GSS_REQUEST_CODE.to_be_bytes())
}

/// The secret is four bytes in protocol 3.0 and up to 256 from 3.2 on.
pub(crate) fn cancel_request(pid: u32, secret: &[u8]) -> Vec<u8> {
    let mut body = CANCEL_REQUEST_CODE.to_be_bytes().to_vec();
    body.extend_from_slice(&pid.to_be_bytes());
    body.extend_from_slice(secret);
    untagged(&body)
}

pub(crate) fn password(password: &str) -> Vec<u8> {
    message(b'p', &cstr(password))
}

pub(crate) fn sasl_initial(mechanism: &str, response: &[u8]) -> Vec<u8> {
    let mut body = cstr(mechanism);
    body.extend_from_slice(&length32(response.len()));
    body.extend_from_slice(response);
    message(b'p', &body)
}

pub(crate) fn sasl_response(response: &[u8]) -> Vec<u8> {
    message(b'p', response)
}

pub(crate) fn query(sql: &str) -> Vec<u8> {
    message(b'Q', &cstr(sql))
}

/// Parse; `types` are parameter type OIDs, may be fewer than the parameters.
pub(crate) fn parse(statement: &str, sql: &str, types: &[u32]) -> Vec<u8> {
    let mut body = cstr(statement);
    body.extend_from_slice(&cstr(sql));
    body.extend_from_slice(&length16(types.len()));
    for oid in types {
        body.extend_from_slice(&oid.to_be_bytes());
    }
    message(b'P', &body)
}

/// Bind with text parameters and text results.
pub(crate) fn bind(portal: &str, statement: &str, parameters: &[Option<&str>]) -> Vec<u8> {
    let mut body = cstr(portal);
    body.extend_from_slice(&cstr(statement));
    body.extend_from_slice(&length16(0));
    body.extend_from_slice(&length16(parameters.len()));
    for parameter in parameters {
        match parameter {
            Some(text) => {
                body.extend_from_slice(&length32(text.len()));
                body.extend_from_slice(text.as_bytes());
            }
            None => body.extend_from_slice(&(-1_i32).to_be_bytes()),
        }
    }
    body.extend_from_slice(&length16(0));
    message(b'B', &body)
}

pub(crate) fn describe_statement(name: &str) -> Vec<u8> {
    named(b'D', b'S', name)
}

pub(crate) fn describe_portal(name: &str) -> Vec<u8> {
    named(b'D', b'P', name)
}

pub(crate) fn close_statement(name: &str) -> Vec<u8> {
    named(b'C', b'S', name)
}

pub(crate) fn close_portal(name: &str) -> Vec<u8> {
    named(b'C', b'P', name)
}

/// Execute; `max_rows` 0 means all.
pub(crate) fn execute(portal: &str, max_rows: u32) -> Vec<u8> {
    let mut body = cstr(portal);
    body.extend_from_slice(&max_rows.to_be_bytes());
    message(b'E', &body)
}

pub(crate) fn sync() -> Vec<u8> {
    message(b'S', b"")
}

pub(crate) fn flush() -> Vec<u8> {
    message(b'H', b"")
}

pub(crate) fn terminate() -> Vec<u8> {
    message(b'X', b"")
}

pub(crate) fn copy_data(data: &[u8]) -> Vec<u8> {
    message(b'd', data)
}

pub(crate) fn copy_done() -> Vec<u8> {
    message(b'c', b"")
}

pub(crate) fn copy_fail(reason: &str) -> Vec<u8> {
    message(b'f', &cstr(reason))
}

/// FunctionCall with text arguments and a text result.
pub(crate) fn function_call(oid: u32, arguments: &[&str]) -> Vec<u8> {
    let mut body = oid.to_be_bytes().to_vec();
    body.extend_from_slice(&length16(0));
    body.extend_from_slice(&length16(arguments.len()));
    for argument in arguments {
        body.extend_from_slice(&length32(argument.len()));
        body.extend_from_slice(argument.as_bytes());
    }
    body.extend_from_slice(&length16(0));
    message(b'F', &body)
}

/// Parse, Bind, Describe, Execute and Sync of one unnamed statement: what most drivers send.
pub(crate) fn extended(sql: &str, parameters: &[Option<&str>]) -> Vec<u8> {
    [parse("", sql, &[]), bind("", "", parameters), describe_portal(""), execute("", 0), sync()].concat()
}

pub(crate) fn cstr(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

fn named(tag: u8, kind: u8, name: &str) -> Vec<u8> {
    let mut body = vec![kind];
    body.extend_from_slice(&cstr(name));
    message(tag, &body)
}

fn length16(count: usize) -> [u8; 2] {
    u16::try_from(count).expect("a short list").to_be_bytes()
}

fn length32(length: usize) -> [u8; 4] {
    i32::try_from(length).expect("a short value").to_be_bytes()
}
