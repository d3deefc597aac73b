//! What is found in which text, and that it does not matter how the text comes.

mod properties;
mod table;

use super::{Act, Arg, Dialect, Feature, Name, read};

/// The acts of a text, each as a word or two.
fn acts(text: &str) -> Vec<String> {
    let script = read(text.as_bytes(), Dialect::default());
    script.acts.iter().map(|act| short(act, text.as_bytes())).collect()
}

fn short(act: &Act, text: &[u8]) -> String {
    let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let part = |range: &std::ops::Range<usize>| lossy(text.get(range.clone()).unwrap());
    let name = |name: &Name| format!("{}<{}>", lossy(&name.text), part(&name.range));
    match act {
        Act::Set(name) => format!("set {name}"),
        Act::Reset(name) => format!("reset {name}"),
        Act::ResetAll => "reset all".into(),
        Act::SetConfig(Arg::Name(name)) => format!("set_config {name}"),
        Act::SetConfig(Arg::Parameter(number)) => format!("set_config ${number}"),
        Act::SetConfig(Arg::Opaque) => "set_config ?".into(),
        Act::Prepare { name: prepared, types, statement } => {
            format!("prepare {} ({}) {}", name(prepared), part(types), part(statement))
        }
        Act::Execute(prepared) => format!("execute {}", name(prepared)),
        Act::Deallocate(prepared) => format!("deallocate {}", name(prepared)),
        Act::DeallocateAll => "deallocate all".into(),
        Act::DiscardAll => "discard all".into(),
        Act::Listen(channel) => format!("listen {}", lossy(channel)),
        Act::Unlisten(channel) => format!("unlisten {}", lossy(channel)),
        Act::UnlistenAll => "unlisten *".into(),
        Act::Uses(feature) => format!("uses {}", feature_word(*feature)),
        Act::Ends(feature) => format!("ends {}", feature_word(*feature)),
        Act::Opaque => "?".into(),
    }
}

fn feature_word(feature: Feature) -> &'static str {
    match feature {
        Feature::AdvisoryLock => "lock",
        Feature::TempTable => "temp",
        Feature::HoldCursor => "cursor",
        Feature::Listen => "listen",
        Feature::Load => "load",
    }
}
