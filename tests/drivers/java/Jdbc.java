// JDBC: the extended protocol; a PreparedStatement is prepared on the server when it is executed the fifth time, and then
// its values are binary.

import java.io.StringReader;
import java.io.StringWriter;
import java.math.BigDecimal;
import java.sql.Array;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.sql.Timestamp;
import java.time.LocalDate;
import java.time.OffsetDateTime;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;
import org.postgresql.util.PGobject;

final class Jdbc extends Clients {
    static void connect(Crowd crowd) throws Exception {
        crowd.turns(2, (client, number) ->
                equal(client.prepared("select current_user::text, ?::int", number), List.of(List.of("app", number))));
        equal(crowd.last.connection.getMetaData().getDatabaseMajorVersion() >= 15, true);
        equal(crowd.last.connection.isValid(5), true);
    }

    static void prepared(Crowd crowd) throws Exception {
        crowd.turns(20, (client, number) ->
                equal(client.prepared("select ? + 1, ?", number, "é'\\"), List.of(List.of(number + 1, "é'\\"))));
        if (BACKENDS == 0) { // the driver has prepared by itself
            equal(crowd.clients.get(0).text("select (count(*) > 0)::text from pg_prepared_statements"), "true");
        }
    }

    /** Each statement is closed when it is prepared on the server; the driver keeps some of them. */
    static void preparedMany(Crowd crowd) throws Exception {
        crowd.turns(3, (client, number) -> {
            for (int n = 0; n < 300; n++) {
                try (PreparedStatement statement = client.connection.prepareStatement("select " + n + " + ?")) {
                    for (int again = 0; again < (n % 20 == 0 ? 7 : 1); again++) {
                        statement.setInt(1, number);
                        equal(rows(statement.executeQuery()), List.of(List.of(n + number)));
                    }
                }
            }
        });
    }

    static void preparedConcurrently(Crowd crowd) throws Exception {
        atOnce(crowd, (client, number) -> {
            for (int n = 0; n < 50; n++) {
                equal(client.prepared("select ? * 2, ?", n, "" + number), List.of(List.of(2 * n, "" + number)));
                client.begin();
                equal(client.prepared("select ? * 3", n), List.of(List.of(3 * n)));
                client.commit();
            }
        });
    }

    static void preparedAndFailing(Crowd crowd) throws Exception {
        crowd.turns(8, (client, number) -> {
            fails("22012", () -> client.prepared("select 6 / ?", 0));
            fails("42P01", () -> client.prepared("select * from no_such_table where x = ?", 1));
            equal(client.prepared("select 6 / ?", number + 1), List.of(List.of(6 / (number + 1))));
        });
    }

    static void batches(Crowd crowd) throws Exception {
        crowd.last.run("delete from account");
        crowd.turns(3, (client, number) -> {
            client.prepared("delete from account where id / 1000 = ?", number);
            client.begin();
            try (PreparedStatement insert = client.connection.prepareStatement("insert into account values (?, ?, ?)",
                    Statement.RETURN_GENERATED_KEYS)) {
                for (int n = 0; n < 300; n++) {
                    insert.setInt(1, 1000 * number + n);
                    insert.setString(2, "batch");
                    insert.setLong(3, n);
                    insert.addBatch();
                }
                equal(Arrays.stream(insert.executeBatch()).sum(), 300);
            }
            client.commit();
        });
        equal(crowd.last.text("select count(*)::text from account"), "1500");
    }

    static final String COLUMNS = "an_int, a_bigint, a_numeric, a_float, a_bool, a_text, a_bytea, a_timestamptz, a_date, "
            + "a_uuid, a_json, a_jsonb, ints, texts, nothing";

    static PGobject json(String type, String text) throws SQLException {
        PGobject json = new PGobject();
        json.setType(type);
        json.setValue(text);
        return json;
    }

    /** The first five reads get text, the later ones binary values. */
    static void types(Crowd crowd) throws Exception {
        crowd.last.run("delete from everything");
        List<Object> sent = Arrays.asList(-2147483648, 9007199254740993L, new BigDecimal("12345678901234567890.000000001"),
                0.1, true, "Grüße, 世界 🐘 '\"\\", new byte[] {0, 1, 39, 92, -2, -1},
                Timestamp.from(OffsetDateTime.parse("2024-02-29T12:34:56.789012Z").toInstant()),
                java.sql.Date.valueOf(LocalDate.of(2024, 2, 29)),
                UUID.fromString("0b8f3c52-7d1e-4c55-9b1a-2f6f0c9d7e11"), json("json", "{\"list\": [1, null, \"é\"]}"),
                json("jsonb", "{\"deep\": {\"x\": 1.5}}"), new Integer[] {3, -1, 2}, new String[] {"a b", "ü,\"", ""}, null);
        String marks = sent.stream().map(value -> ", ?").collect(Collectors.joining());
        crowd.turns(1, (client, number) -> {
            List<Object> values = new ArrayList<>(List.of(number));
            values.addAll(sent);
            values.set(13, client.connection.createArrayOf("int4", (Object[]) sent.get(12)));
            values.set(14, client.connection.createArrayOf("text", (Object[]) sent.get(13)));
            client.prepared("insert into everything (id, " + COLUMNS + ") values (?" + marks + ")", values.toArray());
        });
        crowd.turns(12, (client, number) -> {
            List<Object> row = client.prepared("select " + COLUMNS + " from everything where id = ?", number).get(0);
            for (int at = 0; at < row.size(); at++) {
                Object got = row.get(at) instanceof Array array ? array.getArray() : row.get(at);
                equal(got, sent.get(at));
            }
        });
    }

    static void copy(Crowd crowd) throws Exception {
        crowd.last.run("delete from account");
        crowd.turns(2, (client, number) -> {
            client.run("delete from account where id / 1000 = " + number);
            String lines = IntStream.range(0, 500)
                    .mapToObj(n -> (1000 * number + n) + "\tähm " + n + "\t" + n + "\n").collect(Collectors.joining());
            var copies = client.connection.unwrap(PGConnection.class).getCopyAPI();
            equal(copies.copyIn("copy account from stdin", new StringReader(lines)), 500L);
            StringWriter out = new StringWriter();
            copies.copyOut("copy (select * from account where id / 1000 = " + number + " order by id) to stdout", out);
            equal(out.toString(), lines);
            fails("23505", () -> copies.copyIn("copy account from stdin", new StringReader(lines.split("\n")[0])));
        });
        equal(crowd.last.text("select count(*)::text from account"), "2500");
    }

    /** With a fetch size and in a transaction the driver reads a portal in parts. */
    static void cursor(Crowd crowd) throws Exception {
        crowd.turns(3, (client, number) -> {
            client.begin();
            try (PreparedStatement walk =
                    client.connection.prepareStatement("select n + ? from generate_series(1, 1000) n")) {
                walk.setFetchSize(90);
                for (int again = 0; again < 3; again++) {
                    walk.setInt(1, number);
                    int total = rows(walk.executeQuery()).stream().mapToInt(row -> (Integer) row.get(0)).sum();
                    equal(total, 500500 + 1000 * number);
                }
            }
            client.commit();
        });
    }

    static void cancel(Crowd crowd) throws Exception {
        crowd.turns(2, (client, number) -> {
            try (Statement statement = client.connection.createStatement()) {
                // Again until it hits: the first may come before the query has begun.
                ScheduledExecutorService others = Executors.newSingleThreadScheduledExecutor();
                others.scheduleWithFixedDelay(() -> {
                    try {
                        statement.cancel();
                    } catch (SQLException ignored) {
                        // Then the query is not cancelled, and the case fails.
                    }
                }, 300, 300, TimeUnit.MILLISECONDS);
                fails("57014", () -> statement.execute("select pg_sleep(10)"));
                others.shutdown();
                equal(others.awaitTermination(10, TimeUnit.SECONDS), true);
            }
            equal(client.text("select 'on'"), "on");
        });
    }

    /** The driver's own time limit, which sends a cancel request. */
    static void queryTimeout(Crowd crowd) throws Exception {
        crowd.turns(1, (client, number) -> {
            try (Statement statement = client.connection.createStatement()) {
                statement.setQueryTimeout(1);
                fails("57014", () -> statement.execute("select pg_sleep(10)"));
            }
            equal(client.text("select 'on'"), "on");
        });
    }

    static List<String> notified(Client client, int milliseconds) throws SQLException {
        PGNotification[] news = client.connection.unwrap(PGConnection.class).getNotifications(milliseconds);
        return news == null ? List.of() : Arrays.stream(news).map(PGNotification::getParameter).toList();
    }

    static void listenNotify(Crowd crowd) throws Exception {
        Client listener = crowd.clients.get(0), sender = crowd.clients.get(1), other = crowd.clients.get(2);
        listener.run("listen news");
        for (int number = 0; number < 8; number++) {
            sender.prepared("select pg_notify('news', ?)::text", "idle " + number);
            equal(other.text("select 'somebody else'"), "somebody else");
            equal(notified(listener, 10000), List.of("idle " + number));
        }
        listener.begin();
        equal(listener.text("select 'busy'"), "busy");
        sender.run("notify news, 'in a transaction'");
        listener.commit();
        equal(notified(listener, 10000), List.of("in a transaction"));
        listener.run("listen last");
        listener.run("unlisten news");
        sender.run("notify news, 'nobody'");
        sender.run("notify last, 'the end'");
        equal(notified(listener, 10000), List.of("the end"));
        equal(notified(other, 50), List.of());
        equal(notified(sender, 50), List.of());
        listener.run("unlisten *");
    }

    /** The pooler's own database, which PostgreSQL has not. */
    static void console(Crowd crowd) throws Exception {
        if (BACKENDS == 0) {
            return;
        }
        equal(crowd.clients.get(0).text("select 'on'"), "on");
        try (Client console = new Client("pgbouncer"); Statement statement = console.connection.createStatement()) {
            for (String command : List.of("SHOW POOLS", "SHOW CLIENTS")) {
                boolean found = false;
                try (ResultSet result = statement.executeQuery(command)) {
                    while (result.next()) {
                        found |= "app".equals(result.getString("user"));
                    }
                }
                equal(found, true);
            }
            equal(console.prepared("SHOW VERSION").size(), 1);
        }
    }

    public static void main(String[] arguments) throws Exception {
        Map<String, Body> cases = new LinkedHashMap<>();
        cases.put("connect", with(5, Jdbc::connect));
        cases.put("prepared", with(5, Jdbc::prepared));
        cases.put("prepared_many", with(3, Jdbc::preparedMany));
        cases.put("prepared_concurrently", with(6, Jdbc::preparedConcurrently));
        cases.put("prepared_and_failing", with(5, Jdbc::preparedAndFailing));
        cases.put("batches", with(5, Jdbc::batches));
        cases.put("types", with(5, Jdbc::types));
        cases.put("copy", with(5, Jdbc::copy));
        cases.put("cursor", with(5, Jdbc::cursor));
        cases.put("cancel", with(3, Jdbc::cancel));
        cases.put("query_timeout", with(2, Jdbc::queryTimeout));
        cases.put("listen_notify", with(3, Jdbc::listenNotify));
        cases.put("console", with(1, Jdbc::console));
        cases.put("clients_share_backends", with(5, SessionCases::clientsShareBackends));
        cases.put("many_connections", with(12, SessionCases::manyConnections));
        cases.put("commit_and_rollback", with(5, SessionCases::commitAndRollback));
        cases.put("failed_statement", with(5, SessionCases::failedStatement));
        cases.put("savepoints", with(5, SessionCases::savepoints));
        cases.put("concurrent_transactions", with(6, SessionCases::concurrentTransactions));
        cases.put("isolation_and_read_only", with(5, SessionCases::isolationAndReadOnly));
        cases.put("set_settings", with(5, SessionCases::setSettings));
        cases.put("set_config", with(5, SessionCases::setConfig));
        cases.put("set_in_transactions", with(5, SessionCases::setInTransactions));
        cases.put("search_path", with(5, SessionCases::searchPath));
        cases.put("sql_prepare", with(5, SessionCases::sqlPrepare));
        cases.put("statement_timeout", with(2, SessionCases::statementTimeout));
        cases.put("temp_table", with(5, SessionCases::tempTable));
        cases.put("advisory_lock", with(5, SessionCases::advisoryLock));
        cases.put("cursor_with_hold", with(5, SessionCases::cursorWithHold));
        cases.put("discard_all", with(5, SessionCases::discardAll));
        if (arguments.length > 0) {
            cases.keySet().retainAll(List.of(arguments));
        }
        System.out.println("plan " + String.join(" ", cases.keySet()));
        for (var one : cases.entrySet()) {
            try {
                one.getValue().run();
                System.out.println("ok " + one.getKey());
            } catch (Throwable failure) {
                String place = Arrays.stream(failure.getStackTrace())
                        .filter(frame -> frame.getFileName() != null && frame.getFileName().matches("(Jdbc|SessionCases).java"))
                        .map(frame -> frame.getFileName() + ":" + frame.getLineNumber()).findFirst().orElse("?");
                System.out.println("not ok " + one.getKey() + ": " + place + ": " + String.valueOf(failure).replace('\n', ' '));
            }
        }
        System.out.println("version JDBC " + org.postgresql.util.DriverInfo.DRIVER_VERSION);
        System.exit(0);
    }
}
