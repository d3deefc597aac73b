//! The most connections that a configuration may open.

use proptest::prelude::*;

use super::config;
use crate::config::Demand;

fn demands(text: &str) -> Vec<Demand> {
    config(text).demands()
}

/// The only server's `(known, most)`.
fn bounds(text: &str) -> (Option<u64>, Option<u64>) {
    let demands = demands(text);
    assert_eq!(demands.len(), 1, "{demands:?}");
    (demands[0].known, demands[0].most)
}

const USERS: &str = "[users.a]\npassword = \"x\"\n[users.b]\npassword = \"x\"\npool_size = 7\n";

/// Session mode, so that nothing listens for all; no budget, so that nothing asks for it.
fn file(general: &str, rest: &str) -> String {
    let budget = if general.contains("slot_budget") { "" } else { "slot_budget = \"off\"" };
    format!("[pgpool]\n{budget}\n{general}\n[databases.one]\nhost = \"h\"\n{rest}\n{USERS}")
}

#[test]
fn each_user_of_each_database_has_a_pool() {
    assert_eq!(bounds(&file("", "")), (Some(27), Some(27)));
    assert_eq!(bounds(&file("", "[databases.two]\nhost = \"h\"\npool_size = 3")), (Some(37), Some(37)));
    assert_eq!(bounds(&file("", "user = \"b\"")), (Some(7), Some(7)));
    assert_eq!(bounds(&file("", "user = \"nobody\"\npool_size = 4")), (Some(4), Some(4)));
    assert_eq!(bounds(&file("reserve_pool_size = 5", "")), (Some(37), Some(37)));
    assert_eq!(bounds(&file("reserve_pool_size = 5\nreserve_pool_timeout = 0", "")), (Some(27), Some(27)));
    assert_eq!(bounds(&file("default_pool_size = 0", "")), (None, None));
}

#[test]
fn limits_over_several_pools_bound_the_sum() {
    assert_eq!(bounds(&file("max_db_connections = 9", "")), (Some(9), Some(9)));
    assert_eq!(bounds(&file("max_db_connections = 9", "max_db_connections = 0")), (Some(27), Some(27)));
    let two = "[databases.two]\nhost = \"h\"";
    assert_eq!(bounds(&file("max_db_connections = 9", two)), (Some(18), Some(18)));
    assert_eq!(bounds(&file("max_user_connections = 5", two)), (Some(10), Some(10)));
    assert_eq!(bounds(&file("default_pool_size = 0\nmax_user_connections = 8", "")), (Some(15), Some(15)));
    assert_eq!(bounds(&file("default_pool_size = 0\nmax_db_connections = 8", "")), (Some(8), Some(8)));
}

#[test]
fn who_and_what_the_file_does_not_name_has_no_bound_but_the_limits() {
    let asked = "auth_user = \"a\"\nmax_user_connections = 6";
    // One connection more for the query itself.
    assert_eq!(bounds(&file(asked, "")), (Some(13), None));
    assert_eq!(bounds(&file(asked, "max_db_connections = 11")), (Some(11), Some(11)));
    let any = "[databases.\"*\"]\nhost = \"h\"";
    assert_eq!(bounds(&file("", any)), (Some(54), None));
    assert_eq!(bounds(&file("max_user_connections = 30", any)), (Some(44), Some(60)));
    assert_eq!(bounds(&file("auth_type = \"pam\"", "")).1, None);
    assert_eq!(bounds(&file("auth_type = \"trust\"", "")).1, Some(27));
}

#[test]
fn own_connections_count() {
    assert_eq!(bounds(&file("pool_mode = \"transaction\"", "")), (Some(28), Some(28)));
    let refused = "pool_mode = \"transaction\"\nsession_features = \"listen=reject\"";
    assert_eq!(bounds(&file(refused, "")), (Some(27), Some(27)));
    let elsewhere = "[databases.two]\nhost = \"other\"\nuser = \"b\"";
    let found = demands(&file("auth_user = \"a\"\nauth_dbname = \"two\"", elsewhere));
    let own: Vec<_> = found.iter().flat_map(|demand| demand.entries.iter().map(|entry| entry.own)).collect();
    assert_eq!(own, [0, 1]);
}

#[test]
fn a_limit_of_the_server_bounds_everything() {
    assert_eq!(bounds(&file("slot_budget = \"auto\"", "")), (Some(28), Some(28)));
    assert_eq!(bounds(&file("slot_budget = 12", "")), (Some(12), Some(12)));
    assert_eq!(bounds(&file("max_server_connections = 9", "")), (Some(9), Some(9)));
    assert_eq!(bounds(&file("slot_budget = 12\nmax_server_connections = 90", "")), (Some(12), Some(12)));
    assert_eq!(bounds(&file("default_pool_size = 0\nmax_server_connections = 9", "")), (Some(9), Some(9)));
    for (text, kept) in [("\"auto\"", true), ("\"75%\"", true), ("80", false), ("\"off\"", false)] {
        assert_eq!(config(&file(&format!("slot_budget = {text}"), "")).keeps_to_slots(), kept, "{text}");
    }
    let told = demands(&file("slot_budget = 12", ""))[0].to_string();
    let expected = "\nand 1 on which slot_budget is asked\nwithin max_server_connections and slot_budget: 12\n\
                    at most 12 connections";
    assert!(told.ends_with(expected), "{told}");
}

#[test]
fn each_server_has_its_own_sum() {
    let text = file("", "[databases.two]\nhost = [\"h\", \"i\"]\nport = \"5432,5433\"\nuser = \"b\"");
    let found: Vec<_> =
        demands(&text).into_iter().map(|demand| (demand.host.to_string(), demand.port, demand.most)).collect();
    assert_eq!(found, [("h".to_owned(), 5432, Some(34)), ("i".to_owned(), 5433, Some(7))]);
    assert_eq!(config(&file("", "")).processes(), 1);
    let peers = "peer_id = 2\n[peers.1]\nhost = \"x\"\n[peers.2]\nhost = \"x\"\n[peers.3]\nhost = \"x\"";
    assert_eq!(config(&file(peers, "")).processes(), 3);
}

#[test]
fn the_sum_is_told() {
    let text = file("reserve_pool_size = 2", "[databases.\"*\"]\nhost = \"h\"\nuser = \"c\"\nmax_db_connections = 5");
    let told = demands(&text)[0].to_string();
    let expected = "[databases.one]: user b x (pool_size 7 + reserve 2) + user a x (pool_size 20 + reserve 2) = 31\n\
                    [databases.\"*\"]: user c x (pool_size 20 + reserve 2), max_db_connections 5, for each database \
                    that clients ask for = 5 and more\n\
                    at most 36 connections of what the file names, and no limit beyond that";
    assert_eq!(told, expected);
}

proptest! {
    /// Any set of connections that keeps every single limit is within the bound.
    #[test]
    fn the_bound_is_never_too_small(
        sizes in proptest::collection::vec(1u32..6, 4), db in proptest::collection::vec(0u32..8, 2),
        user in proptest::collection::vec(0u32..8, 2), order in proptest::collection::vec(0usize..4, 0..40),
    ) {
        let text = format!(
            "[pgpool]\nslot_budget = \"off\"\n[databases.d0]\nhost = \"h\"\npool_size = {}\nmax_db_connections = {}\n[databases.d1]\nhost = \"h\"\n\
             pool_size = {}\nmax_db_connections = {}\n[users.u0]\nmax_user_connections = {}\n[users.u1]\n\
             max_user_connections = {}\n",
            sizes[0], db[0], sizes[1], db[1], user[0], user[1]
        );
        let (mut pools, mut total) = ([0u32; 4], 0u64);
        for pool in order {
            let (d, u) = (pool / 2, pool % 2);
            let of_db = pools[2 * d] + pools[2 * d + 1];
            let of_user = pools[u] + pools[2 + u];
            let fits = |used: u32, limit: u32| limit == 0 || used < limit;
            if pools[pool] < sizes[d] && fits(of_db, db[d]) && fits(of_user, user[u]) {
                pools[pool] += 1;
                total += 1;
            }
        }
        prop_assert!(bounds(&text).1.unwrap() >= total);
    }
}
