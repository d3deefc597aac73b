//! Statements without names that are bound behind the Sync of their Parse, on another backend or on one where somebody
//! else has parsed the same text meanwhile.

use super::{ALL, Stage, ask, bare, prepare, refused, run};
use crate::support::{
    for_each_worker_count,
    messages::{bind, describe_portal, execute, parse, sync},
};

/// Often enough for a backend to keep it.
const OFTEN: usize = 4;

#[test]
fn one_that_is_bound_elsewhere_keeps_to_what_the_client_was_told() {
    for_each_worker_count(|workers| {
        for parses in [1, OFTEN] {
            let mut stage = Stage::sized(workers, 2, "");
            let mut reader = stage.pooler.login("alice", "alicepw", "app");
            for _ in 0..parses {
                assert_eq!(ask(&mut reader, &prepare("", ALL)).0, "1tTZ");
            }
            // The backend that came back last is taken, and the reader gets another one.
            stage.first.query("begin").unwrap();
            for _ in 0..2 {
                assert_eq!(ask(&mut reader, &bare("")), ("2DDDCZ".into(), 1), "{parses}");
            }
            stage.alter();
            refused(&mut reader, &bare(""), "EZ");
            stage.second.query("begin").unwrap();
            stage.first.query("rollback").unwrap();
            for _ in 0..3 {
                refused(&mut reader, &bare(""), "EZ");
            }
            stage.second.query("rollback").unwrap();
            refused(&mut reader, &bare(""), "EZ");
            // Told anew, with the rows or before, it goes on.
            assert_eq!(ask(&mut reader, &[run(""), sync()]), ("2TDDDCZ".into(), 2), "{parses}");
            assert_eq!(ask(&mut reader, &prepare("", ALL)).0, "1tTZ");
            stage.first.query("begin").unwrap();
            assert_eq!(ask(&mut reader, &bare("")), ("2DDDCZ".into(), 2), "{parses}");
        }
    });
}

#[test]
fn what_another_client_has_parsed_meanwhile_is_not_taken_for_it() {
    let mut stage = Stage::start(1);
    assert_eq!(ask(&mut stage.first, &prepare("", ALL)).0, "1tTZ");
    stage.alter();
    // The backend has this one without a name now.
    assert_eq!(ask(&mut stage.second, &prepare("", ALL)).0, "1tTZ");
    refused(&mut stage.first, &bare(""), "EZ");
    assert_eq!(ask(&mut stage.second, &bare("")), ("2DDDCZ".into(), 2));
    // Who has not asked is not told anything else; nor is who parses it anew, within a block or not.
    let at_once = [parse("", ALL, &[]), bind("", "", &[]), execute("", 0), sync()];
    for _ in 0..2 {
        assert_eq!(ask(&mut stage.first, &at_once), ("12DDDCZ".into(), 2));
        stage.second.query("begin").unwrap();
        assert_eq!(ask(&mut stage.second, &at_once), ("12DDDCZ".into(), 2));
        stage.second.query("rollback").unwrap();
    }
}

#[test]
fn parameters_count_as_well() {
    let mut stage = Stage::sized(1, 2, "");
    let text = "select 1 from t where x = $1";
    assert_eq!(ask(&mut stage.second, &prepare("", text)).0, "1tTZ");
    stage.first.query("begin").unwrap();
    stage.cluster.sql("app", "alter table t alter column x type text using x::text");
    let described = [bind("", "", &[Some("1")]), describe_portal(""), execute("", 0), sync()];
    refused(&mut stage.second, &described, "EZ");
    assert_eq!(ask(&mut stage.second, &prepare("", text)).0, "1tTZ");
    stage.first.query("rollback").unwrap();
    let bound = [bind("", "", &[Some("1")]), execute("", 0), sync()];
    assert_eq!(ask(&mut stage.second, &bound), ("2DCZ".into(), 1));
}
