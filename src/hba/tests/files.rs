//! Files that include files.

use std::path::Path;

use super::{Memory, faults};
use crate::hba::{Rules, read_rules};

fn read(files: &[(&str, &str)]) -> Result<Rules, Vec<crate::hba::Fault>> {
    read_rules(Path::new("d/hba"), &Memory::of(files))
}

fn printed(files: &[(&str, &str)]) -> Vec<String> {
    read(files).unwrap().0.iter().map(|rule| format!("{} {rule}", rule.place)).collect()
}

#[test]
fn names_stand_in_files() {
    let files = [
        ("d/hba", "local @dbs,x @u/users trust\nlocal @none all trust"),
        ("d/dbs", "a, b # c\n\"sameuser\" all\n"),
        ("d/u/users", "@more /^x$\n"),
        ("d/u/more", "m n,o"),
        ("d/none", "# nobody\n"),
    ];
    let expected = [r#"d/hba:1 local "a","b","sameuser",all,"x" "m","n","o","/^x$" trust"#, "d/hba:2 local  all trust"];
    assert_eq!(printed(&files), expected);
}

#[test]
fn lines_stand_in_files() {
    let files = [
        (
            "d/hba",
            "local a all trust\ninclude sub/x\ninclude_if_exists missing\ninclude_if_exists y\ninclude_dir c\nlocal z all md5",
        ),
        ("d/sub/x", "local x all trust\ninclude y"),
        ("d/sub/y", "local xy all trust"),
        ("d/y", "local y all trust"),
        ("d/c/2.conf", "local c2 all trust"),
        ("d/c/1.conf", "local c1 all trust"),
        ("d/c/.3.conf", "nonsense"),
        ("d/c/4.conf~", "nonsense"),
        ("d/c/.conf", "nonsense"),
    ];
    let expected = [
        r#"d/hba:1 local "a" all trust"#,
        r#"d/sub/x:1 local "x" all trust"#,
        r#"d/sub/y:1 local "xy" all trust"#,
        r#"d/y:1 local "y" all trust"#,
        r#"d/c/1.conf:1 local "c1" all trust"#,
        r#"d/c/2.conf:1 local "c2" all trust"#,
        r#"d/hba:6 local "z" all md5"#,
    ];
    assert_eq!(printed(&files), expected);
}

#[test]
fn what_is_wrong_in_a_file_is_told_with_its_place() {
    let files = [
        (
            "d/hba",
            "local a all trust\nbad\ninclude x\nlocal @list all trust\nlocal @gone all trust\ninclude gone\ninclude_dir gone\nworse",
        ),
        ("d/x", "local x\ninclude d/hba"),
        ("d/list", "\"open"),
    ];
    let read_it = |path: &str| format!("cannot read {path}: entity not found");
    let kinds = "write local, host, hostssl, hostnossl, hostgssenc or hostnogssenc";
    let expected = [
        "d/x:1: end-of-line before role specification".to_owned(),
        format!("d/x:2: {}", read_it("d/d/hba")),
        "d/list:1: a quote is not closed: end the name with \"".to_owned(),
        format!("d/hba:2: invalid connection type \"bad\": {kinds}"),
        format!("d/hba:5: {}", read_it("d/gone")),
        format!("d/hba:6: {}", read_it("d/gone")),
        format!("d/hba:7: {}", read_it("d/gone")),
        format!("d/hba:8: invalid connection type \"worse\": {kinds}"),
    ];
    let mut found = faults(read(&files));
    let mut expected = expected.to_vec();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    assert_eq!(faults(read(&[])), ["d/hba: cannot read d/hba: entity not found"]);
}

#[test]
fn files_neither_nest_too_deep_nor_in_circles() {
    assert_eq!(faults(read(&[("d/hba", "include hba")])), ["d/hba:1: d/hba includes itself"]);
    assert_eq!(faults(read(&[("d/hba", "local @hba all trust")])), ["d/hba:1: d/hba includes itself"]);
    let chain = |length: usize| {
        let mut files = vec![("d/hba".to_owned(), "include 1".to_owned())];
        files.extend((1..length).map(|at| (format!("d/{at}"), format!("include {}", at + 1))));
        files.push((format!("d/{length}"), "local all all trust".to_owned()));
        let files: Vec<_> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        faults(read(&files))
    };
    assert_eq!(chain(10), Vec::<String>::new());
    assert_eq!(chain(11), ["d/10:1: files include each other more than 10 times deep"]);
}
