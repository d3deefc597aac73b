// The cases that are SQL: transactions, settings, and what PostgreSQL keeps for a session.

import java.sql.Connection;
import java.sql.Savepoint;
import java.util.Collections;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.stream.Collectors;

final class SessionCases extends Clients {
    static void clientsShareBackends(Crowd crowd) throws Exception {
        List<Set<String>> seen = crowd.clients.stream().map(client -> (Set<String>) new HashSet<String>()).toList();
        crowd.turns(4, (client, number) -> seen.get(number).add(client.text("select pg_backend_pid()::text")));
        equal(seen.stream().map(Set::size).toList(), Collections.nCopies(5, BACKENDS == 0 ? 1 : 2));
        Set<String> all = seen.stream().flatMap(Set::stream).collect(Collectors.toSet());
        equal(all.size(), BACKENDS == 0 ? 5 : BACKENDS);
    }

    static void manyConnections(Crowd crowd) throws Exception {
        for (int number = 0; number < 40; number++) {
            try (Client client = new Client()) {
                equal(client.text("select '" + number + "'"), "" + number);
            }
        }
        crowd.turns(2, (client, number) -> equal(client.text("select '" + number + "'"), "" + number));
    }

    static void commitAndRollback(Crowd crowd) throws Exception {
        crowd.last.run("delete from account");
        crowd.turns(8, (client, number) -> {
            client.begin();
            client.prepared("insert into account values (?, 'kept', 1) on conflict (id) do update "
                    + "set balance = account.balance + 1", number);
            client.commit();
            client.begin();
            client.prepared("update account set owner = 'lost' where id = ?", number);
            client.rollback();
        });
        equal(crowd.last.text("select string_agg(concat_ws(' ', id, owner, balance), ',' order by id) from account"),
                "0 kept 8,1 kept 8,2 kept 8,3 kept 8,4 kept 8");
    }

    static void failedStatement(Crowd crowd) throws Exception {
        crowd.turns(4, (client, number) -> {
            client.begin();
            fails("22012", () -> client.text("select (1 / 0)::text"));
            fails("25P02", () -> client.text("select 'in a failed transaction'"));
            client.rollback();
            fails("42P01", () -> client.text("select x::text from no_such_table"));
            equal(client.text("select '" + number + "'"), "" + number);
        });
    }

    static void savepoints(Crowd crowd) throws Exception {
        crowd.last.run("delete from account");
        crowd.turns(2, (client, number) -> {
            client.begin();
            client.run("insert into account values (" + number + ", 'a', 1) on conflict do nothing");
            Savepoint before = client.connection.setSavepoint("before");
            fails("23505", () -> client.run("insert into account values (" + number + ", 'b', 2)"));
            client.connection.rollback(before);
            client.run("update account set balance = balance + 10 where id = " + number);
            client.commit();
        });
        equal(crowd.last.text("select sum(balance) || min(owner) from account"), "105a");
    }

    static void concurrentTransactions(Crowd crowd) throws Exception {
        crowd.last.run("delete from account");
        crowd.last.run("insert into account select n, 'x', 0 from generate_series(0, 5) n union values (100, 'all', 0)");
        atOnce(crowd, (client, number) -> {
            for (int n = 0; n < 20; n++) {
                client.begin();
                client.prepared("update account set balance = balance + 1 where id = ?", 100);
                client.prepared("update account set balance = balance + 1 where id = ?", number);
                client.commit();
            }
        });
        equal(crowd.last.text("select string_agg(balance::text, ' ' order by id) from account"), "20 20 20 20 20 20 120");
    }

    static void isolationAndReadOnly(Crowd crowd) throws Exception {
        crowd.clients.get(0).connection.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
        crowd.clients.get(1).connection.setReadOnly(true);
        crowd.turns(4, (client, number) -> {
            client.begin();
            equal(client.text("select current_setting('transaction_isolation')"),
                    number == 0 ? "serializable" : "read committed");
            equal(client.text("select current_setting('transaction_read_only')"), number == 1 ? "on" : "off");
            client.commit();
        });
    }

    // ---- Settings and what belongs to a session -----------------------------------------------------------------

    static final String[] ZONES = {"Europe/Berlin", "Asia/Tokyo", "America/New_York", "Africa/Cairo", "Australia/Sydney"};
    static final String CUSTOM = "select coalesce(current_setting('app.custom', true), '')";
    static final String SETTINGS = "select concat_ws(' ', current_setting('TimeZone'), current_setting('statement_timeout'),"
            + " current_setting('app.custom', true))";

    static void eachSeesItsOwn(Crowd crowd) throws Exception {
        crowd.turns(8, (client, number) ->
                equal(client.text(SETTINGS), ZONES[number] + " " + (10001 + number) + "ms value " + number));
        // The one that only held a backend has set nothing: the driver has sent the machine's zone.
        equal(crowd.last.text(SETTINGS).trim(), "UTC 0");
        for (Client client : crowd.clients) {
            client.run("reset timezone");
            client.run("reset statement_timeout");
            client.run("reset app.custom");
        }
        crowd.turns(2, (client, number) -> equal(client.text(SETTINGS).trim(), "UTC 0"));
    }

    static void setSettings(Crowd crowd) throws Exception {
        crowd.turns(1, (client, number) -> {
            client.run("set timezone to '" + ZONES[number] + "'");
            client.run("set statement_timeout = " + (10001 + number));
            client.run("set app.custom = 'value " + number + "'");
        });
        eachSeesItsOwn(crowd);
    }

    static void setConfig(Crowd crowd) throws Exception {
        crowd.turns(1, (client, number) -> {
            client.prepared("select set_config(?, ?, false)", "TimeZone", ZONES[number]);
            client.prepared("select set_config(?, ?, false)", "statement_timeout", "" + (10001 + number));
            client.prepared("select set_config(?, ?, false)", "app.custom", "value " + number);
        });
        eachSeesItsOwn(crowd);
    }

    static void setInTransactions(Crowd crowd) throws Exception {
        crowd.turns(1, (client, number) -> {
            client.begin();
            client.run("set app.custom = 'kept " + number + "'");
            client.commit();
        });
        crowd.turns(2, (client, number) -> {
            client.begin();
            client.run("set app.custom = 'rolled back'");
            equal(client.text(CUSTOM), "rolled back");
            client.rollback();
            client.begin();
            client.run("set local app.custom = 'local'");
            equal(client.text(CUSTOM), "local");
            client.commit();
        });
        crowd.turns(2, (client, number) -> equal(client.text(CUSTOM), "kept " + number));
    }

    static void searchPath(Crowd crowd) throws Exception {
        crowd.turns(1, (client, number) -> {
            client.run("create schema if not exists tenant_" + number);
            client.run("create table if not exists tenant_" + number + ".thing as select 'of " + number + "'::text as name");
            client.connection.setSchema("tenant_" + number);
        });
        crowd.turns(8, (client, number) -> equal(client.text("select name from thing"), "of " + number));
        fails("42P01", () -> crowd.last.text("select name from thing"));
    }

    static void sqlPrepare(Crowd crowd) throws Exception {
        crowd.turns(1, (client, number) -> client.run("prepare plan_a (int) as select ($1 + " + 100 * number + ")::text"));
        crowd.turns(4, (client, number) -> equal(client.text("execute plan_a(1)"), "" + (100 * number + 1)));
        Client first = crowd.clients.get(0);
        fails("26000", () -> crowd.last.text("execute plan_a(1)"));
        first.run("deallocate plan_a");
        fails("26000", () -> first.text("execute plan_a(2)"));
        for (int number = 1; number < 5; number++) {
            equal(crowd.clients.get(number).text("execute plan_a(3)"), "" + (100 * number + 3));
        }
        first.run("prepare plan_a as select 'again'");
        crowd.held(() -> equal(first.text("execute plan_a"), "again"));
    }

    static void statementTimeout(Crowd crowd) throws Exception {
        Client hasty = crowd.clients.get(0), patient = crowd.clients.get(1);
        String nap = "select 'slept' || pg_sleep(0.3)::text";
        hasty.run("set statement_timeout = 100");
        crowd.held(() -> fails("57014", () -> hasty.text("select pg_sleep(10)::text")));
        equal(patient.text(nap), "slept");
        fails("57014", () -> hasty.text("select pg_sleep(10)::text"));
        hasty.run("set statement_timeout = 0");
        crowd.held(() -> equal(hasty.text(nap), "slept"));
    }

    // What PostgreSQL keeps for a session: one client at a time has some, so that the others have a backend left.

    static void tempTable(Crowd crowd) throws Exception {
        String exists = "select (to_regclass('pg_temp.scratch') is not null)::text";
        for (int at = 0; at < 4; at++) {
            Client owner = crowd.clients.get(at), other = crowd.clients.get(at + 1);
            owner.run("create temp table scratch (n int)");
            for (int count = 1; count < 5; count++) {
                int n = count;
                crowd.held(() -> {
                    owner.begin();
                    owner.run("insert into scratch values (" + n + ")");
                    owner.commit();
                    equal(owner.text("select count(*) || ' ' || sum(n) from scratch"), n + " " + n * (n + 1) / 2);
                });
                equal(other.text(exists), "false");
            }
            owner.run("drop table scratch");
            for (Client client : crowd.clients) {
                equal(client.text(exists), "false");
            }
        }
    }

    static void advisoryLock(Crowd crowd) throws Exception {
        for (int at = 0; at < 4; at++) {
            Client owner = crowd.clients.get(at), other = crowd.clients.get(at + 1);
            owner.text("select pg_advisory_lock(4711)::text");
            for (int again = 0; again < 3; again++) {
                crowd.held(() -> equal(owner.text("select 'still here'"), "still here"));
                equal(other.text("select pg_try_advisory_xact_lock(4711)::text"), "false");
            }
            crowd.held(() -> equal(owner.text("select pg_advisory_unlock(4711)::text"), "true"));
            equal(other.text("select pg_try_advisory_lock(4711)::text"), "true");
            equal(other.text("select pg_advisory_unlock(4711)::text"), "true");
        }
    }

    static void cursorWithHold(Crowd crowd) throws Exception {
        for (int at = 0; at < 4; at++) {
            Client owner = crowd.clients.get(at), other = crowd.clients.get(at + 1);
            owner.begin();
            owner.run("declare held cursor with hold for select n::text from generate_series(1, 9) n");
            equal(owner.prepared("fetch 2 from held"), List.of(List.of("1"), List.of("2")));
            owner.commit();
            crowd.held(() -> equal(owner.prepared("fetch 3 from held"), List.of(List.of("3"), List.of("4"), List.of("5"))));
            fails("34000", () -> other.prepared("fetch 1 from held"));
            owner.run("close held");
            fails("34000", () -> owner.prepared("fetch 1 from held"));
        }
    }

    static void discardAll(Crowd crowd) throws Exception {
        Client first = crowd.clients.get(0), second = crowd.clients.get(1);
        second.run("set app.custom = 'of the second'");
        for (int n = 0; n < 8; n++) {
            equal(first.prepared("select ? + 1", n), List.of(List.of(n + 1)));
        }
        first.run("set app.custom = 'of the first'");
        first.run("prepare plan_b as select 'b'");
        first.run("create temp table scratch (n int)");
        first.text("select pg_advisory_lock(4712)::text");
        first.run("discard all");
        for (int again = 0; again < 2; again++) {
            crowd.held(() -> {
                equal(first.text(CUSTOM), "");
                equal(first.text("select (to_regclass('pg_temp.scratch') is null)::text"), "true");
                // The driver knows that its prepared statement is gone, too.
                equal(first.prepared("select ? + 1", 41), List.of(List.of(42)));
            });
            equal(second.text(CUSTOM), "of the second");
        }
        fails("26000", () -> first.text("execute plan_b"));
        equal(second.text("select pg_try_advisory_lock(4712)::text"), "true");
        equal(second.text("select pg_advisory_unlock(4712)::text"), "true");
        second.run("reset app.custom");
    }
}
