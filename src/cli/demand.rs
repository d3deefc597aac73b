//! `pgpool check --connect`: whether the configuration could ask for more connections than PostgreSQL has slots.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use pgpool::config::{Config, Demand};

use super::doctor::examine::slots;
use super::doctor::facts::Slots;
use super::link::Way;

/// One server, under all the names that the configuration has for it.
struct Server {
    names: Vec<String>,
    demands: Vec<Demand>,
    slots: Slots,
}

/// The sums, and warnings where they do not work out.
///
/// # Errors
/// It could not begin.
pub(crate) fn against_servers(config: &Config) -> Result<String, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot start: {error}"))?;
    Ok(runtime.block_on(Box::pin(look(config))))
}

async fn look(config: &Config) -> String {
    let mut out = String::new();
    let mut servers: BTreeMap<String, Server> = BTreeMap::new();
    for demand in config.demands() {
        let name = format!("{}:{}", demand.host, demand.port);
        let way = Way::of_config(config, &demand.host, demand.port, None);
        let found = match way {
            Ok(way) => Box::pin(slots(&way)).await,
            Err(error) => Err(error),
        };
        match found {
            Ok((identity, slots)) => {
                let server =
                    servers.entry(identity).or_insert_with(|| Server { names: Vec::new(), demands: Vec::new(), slots });
                server.names.push(name);
                server.demands.push(demand);
            }
            Err(error) => {
                let _ = writeln!(
                    out,
                    "warning: {name} may be asked for this, and its slots are not known: {}",
                    error.line()
                );
                indented(&mut out, &demand.to_string());
            }
        }
    }
    for server in servers.values() {
        tell(&mut out, server, config);
    }
    out
}

fn tell(out: &mut String, server: &Server, config: &Config) {
    let processes = u64::from(config.processes());
    let names = server.names.join(" = ");
    let Slots { max_connections, superuser_reserved_connections, ordinary, used, .. } = server.slots;
    let _ = writeln!(out, "{names}");
    for demand in &server.demands {
        indented(out, &demand.to_string());
    }
    let most = sum(&server.demands, |demand| demand.most).map(|most| most * processes);
    let known = sum(&server.demands, |demand| demand.known).map(|known| known * processes);
    if processes > 1 {
        let _ = writeln!(out, "  times {processes} processes ([peers])");
    }
    let kept = ordinary.abs_diff(max_connections).saturating_sub(superuser_reserved_connections);
    let kept = if kept > 0 { format!(" - {kept} reserved otherwise") } else { String::new() };
    let _ = writeln!(
        out,
        "  slots for ordinary roles: max_connections {max_connections} - {superuser_reserved_connections} \
         superuser_reserved_connections{kept} = {ordinary}, {used} taken now"
    );
    let remedy = "set max_db_connections or smaller pool sizes, or raise max_connections";
    match (most, known) {
        (Some(most), _) if most <= u64::from(ordinary) => {
            let _ = writeln!(out, "  {most} of {ordinary}: enough");
        }
        _ if config.keeps_to_slots() => {
            let wanted = most.or(known).map_or(String::from("without a limit"), |most| most.to_string());
            let _ = writeln!(
                out,
                "  {wanted} of {ordinary}: not enough for all at once; slot_budget {} keeps pgpool within the slots, and \
                 clients wait for what is missing",
                config.general.slot_budget
            );
        }
        (Some(most), _) => {
            let _ = writeln!(
                out,
                "warning: {names}: {most} connections may be asked for, and there are {ordinary} slots; {remedy}"
            );
        }
        (None, Some(known)) if known > u64::from(ordinary) => {
            let _ = writeln!(
                out,
                "warning: {names}: {known} connections and more may be asked for, and there are {ordinary} slots; {remedy}"
            );
        }
        (None, _) => {
            let _ = writeln!(
                out,
                "warning: {names}: nothing limits how many connections may be asked for, and there are {ordinary} slots; \
                 {remedy}"
            );
        }
    }
}

fn sum(demands: &[Demand], part: fn(&Demand) -> Option<u64>) -> Option<u64> {
    demands.iter().map(part).sum()
}

fn indented(out: &mut String, text: &str) {
    for line in text.lines() {
        let _ = writeln!(out, "  {line}");
    }
}
