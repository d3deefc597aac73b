//! The files for systemd, Debian and Kubernetes, as far as they speak of pgpool. `scripts/package` tries the package and
//! the image themselves.

mod monitoring;

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use pgpool::config::Config;

use crate::support::programs::find;

/// What has to be so in the files for Kubernetes, and what else the caller has to know: a line each.
const PODS: &str = r#"
import sys, yaml
kinds = {it["kind"]: it for it in yaml.safe_load_all(open(sys.argv[1]))}
assert sorted(kinds) == ["Deployment", "PodDisruptionBudget", "Secret", "Service"], sorted(kinds)
pod = kinds["Deployment"]["spec"]["template"]
spec = pod["spec"]
(container,), (volume,) = spec["containers"], spec["volumes"]
(port,), (mount,), (served,) = container["ports"], container["volumeMounts"], kinds["Service"]["spec"]["ports"]
labels = pod["metadata"]["labels"]
assert kinds["Deployment"]["spec"]["selector"]["matchLabels"] == labels
assert kinds["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
assert kinds["Service"]["spec"]["selector"] == labels
assert container["readinessProbe"]["tcpSocket"]["port"] == served["targetPort"] == port["name"]
assert volume["name"] == mount["name"] and volume["secret"]["secretName"] == kinds["Secret"]["metadata"]["name"]
(name, text), = kinds["Secret"]["stringData"].items()
pause = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
print(port["containerPort"], pause, spec["terminationGracePeriodSeconds"], mount["mountPath"] + "/" + name)
print(text)
"#;

fn read(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib").join(name)).unwrap()
}

fn sound(text: &str) -> Config {
    let loaded = Config::parse(text, Path::new("pgpool.toml")).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(loaded.warnings, []);
    loaded.config
}

#[test]
fn the_package_has_a_sound_configuration_where_the_unit_looks_for_it() {
    let config = sound(&read("debian/pgpool.toml"));
    let unit = read("pgpool.service");
    assert!(unit.contains("ExecStart=/usr/bin/pgpool /etc/pgpool/pgpool.toml\n"));
    assert_eq!(config.general.unix_socket_dir.as_deref(), Some(Path::new("/run/pgpool")));
    assert!(unit.contains("\nRuntimeDirectory=pgpool\n"));
    let patience = unit.lines().find_map(|line| line.strip_prefix("TimeoutStopSec=")).unwrap().parse::<u64>().unwrap();
    assert!(config.general.drain_timeout.as_secs() < patience);
}

#[test]
fn the_manual_page_has_every_command_and_option() {
    let page = read("debian/pgpool.1").replace(r"\-", "-");
    let option = |word: &&str| word.len() > 2 && word.starts_with("--");
    let mut commands = BTreeSet::new();
    let mut options = BTreeSet::new();
    for line in help(&[]).lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty()) {
        commands.extend(line.split_whitespace().next().map(str::to_owned));
    }
    commands.remove("help");
    let programs = [None].into_iter().chain(commands.iter().map(Some));
    for line in programs.flat_map(|name| help(&Vec::from_iter(name)).lines().map(str::to_owned).collect::<Vec<_>>()) {
        // A line of the table of options, up to what it says of the option.
        let names = line.trim_start().split("  ").next().filter(|names| names.starts_with('-'));
        options.extend(names.unwrap_or_default().split([' ', '.']).filter(option).map(str::to_owned));
    }
    assert!(commands.contains("check") && options.contains("--leak-age"), "{commands:?} {options:?}");
    let sections = page.lines().filter_map(|line| line.strip_prefix(".SS ").map(str::to_owned));
    assert_eq!(sections.collect::<BTreeSet<_>>(), commands);
    let named =
        page.split(|letter: char| !letter.is_ascii_lowercase() && letter != '-').filter(option).map(str::to_owned);
    assert_eq!(named.collect::<BTreeSet<_>>(), options);
}

fn help(command: &[&String]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_pgpool")).args(command).arg("--help").output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_pods_have_time_to_drain() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/kubernetes/pgpool.yaml");
    let output = Command::new("python3").args(["-c", PODS]).arg(&file).output().expect("python3 with python3-yaml");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told = String::from_utf8(output.stdout).unwrap();
    let (facts, inside) = told.split_once('\n').unwrap();
    let facts: Vec<&str> = facts.split(' ').collect();
    let number = |index: usize| facts[index].parse::<u64>().unwrap();
    let config = sound(inside);
    assert_eq!(config.general.listen_addr, ["*"]);
    assert_eq!(number(0), u64::from(config.general.listen_port));
    assert!(config.general.drain_timeout.as_secs() + number(1) < number(2));
    // Where the image's command looks for it.
    assert!(read("Dockerfile").contains(&format!("\"{}\"", facts[3])), "{}", facts[3]);
}

/// As systemd reads them, with the program where it is here.
#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    let Some(program) = find("systemd-analyze") else {
        eprintln!("systemd-analyze is not installed: nobody to judge the units");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let unit = read("pgpool.service").replace("/usr/bin/pgpool", env!("CARGO_BIN_EXE_pgpool"));
    fs::write(dir.path().join("pgpool.service"), unit).unwrap();
    fs::write(dir.path().join("pgpool.socket"), read("pgpool.socket")).unwrap();
    let judge = |name: &str| {
        let output = Command::new(&program).args(["verify", "--man=no"]).arg(dir.path().join(name)).output().unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    for name in ["pgpool.service", "pgpool.socket"] {
        let (fine, said) = judge(name);
        // It has a word on other units of the machine as well.
        let ours: Vec<&str> = said.lines().filter(|line| line.contains("pgpool")).collect();
        assert!(fine && ours.is_empty(), "{said}");
    }
    let unit = fs::read_to_string(dir.path().join("pgpool.service")).unwrap();
    fs::write(dir.path().join("pgpool.service"), unit.replace("Restart=on-failure", "Restart=sometimes")).unwrap();
    assert!(judge("pgpool.service").1.contains("pgpool.service"), "it does look");
}
