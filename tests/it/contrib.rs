//! The files for systemd, Debian and Kubernetes, as far as they speak of pgpool.

mod monitoring;

use std::{fs, path::Path};

use pgpool::config::Config;

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
fn the_pods_have_time_to_drain() {
    let text = read("kubernetes/pgpool.yaml");
    let (_, rest) = text.split_once("pgpool.toml: |\n").unwrap();
    let inside: String = rest.split("---").next().unwrap().lines().map(|line| format!("{}\n", line.trim())).collect();
    let config = sound(&inside);
    let grace = text.lines().find_map(|line| line.trim().strip_prefix("terminationGracePeriodSeconds: ")).unwrap();
    assert!(config.general.drain_timeout.as_secs() + 5 < grace.parse().unwrap());
    assert_eq!((config.general.listen_addr, config.general.listen_port), (vec!["*".to_owned()], 6432));
}
