//! Whatever a client sends, the console answers in the protocol's terms or ends the session.

use proptest::prelude::*;

use super::*;

/// Sends `bytes`, closes our direction, and reads all that comes, which must be whole messages.
fn feed(role: Role, bytes: &[u8]) -> ConsoleEnd {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut console = Pooler::new().console(role).await;
        let (mut read, mut write) = console.stream.split();
        let mut answer = Vec::new();
        let send = async {
            // The console may close before it has read everything.
            let _ = write.write_all(bytes).await;
            let _ = write.shutdown().await;
        };
        let receive = async {
            let _ = read.read_to_end(&mut answer).await;
        };
        tokio::join!(send, receive);
        let mut rest = answer.as_slice();
        while let Some((head, tail)) = rest.split_first_chunk::<5>() {
            let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize - 4;
            assert!(b"ZETDC123tnIN".contains(&head[0]), "{}", head[0]);
            rest = &tail[length..];
        }
        assert!(rest.is_empty());
        console.task.await.unwrap()
    })
}

fn message() -> impl Strategy<Value = Vec<u8>> {
    let text = prop_oneof![
        "[a-zA-Z_;'\"$ ]{0,40}",
        prop::sample::select(vec![
            "SHOW POOLS",
            "SHOW CLIENTS",
            "SHOW STATS",
            "SHOW CONFIG;SHOW LISTS",
            "PAUSE",
            "RESUME",
            "KILL",
            "RELOAD",
            "SET query_timeout=1",
            "BEGIN",
            "",
            "SHOW HELP",
            "RECONNECT one",
            "WAIT_CLOSE",
        ])
        .prop_map(str::to_owned),
    ];
    let name = prop::sample::select(vec!["", "a", "b"]);
    let formats = prop::collection::vec(0u16..3, 0..3);
    prop_oneof![
        text.clone().prop_map(|text| query(&text)),
        (name.clone(), text).prop_map(|(name, text)| parse(name, &text)),
        (name.clone(), formats).prop_map(|(name, formats)| bind(name, &formats)),
        name.prop_map(|name| frame(b'D', format!("S{name}\0").as_bytes())),
        Just(frame(b'D', b"P\0")),
        Just(execute()),
        Just(sync()),
        Just(frame(b'H', b"")),
        (any::<u8>(), prop::collection::vec(any::<u8>(), 0..40)).prop_map(|(tag, body)| frame(tag, &body)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
        feed(Role::Admin, &bytes);
    }

    #[test]
    fn arbitrary_messages(messages in prop::collection::vec(message(), 0..20)) {
        feed(Role::Admin, &messages.concat());
    }

    #[test]
    fn arbitrary_queries(text in "\\PC{0,200}") {
        let end = feed(Role::Stats, &query(&text));
        prop_assert!(matches!(end, ConsoleEnd::Closed));
    }
}
