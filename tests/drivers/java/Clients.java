// What the cases share: clients that work in turns or at the same time, and what is expected of them.

import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Properties;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

class Clients {
    static final int BACKENDS = Integer.parseInt(System.getenv().getOrDefault("PGPOOL_BACKENDS", "0"));

    interface Body {
        void run() throws Exception;
    }

    interface Turn {
        void run(Client client, int number) throws Exception;
    }

    /** A connection, its prepared statements, and short ways to use them. */
    static class Client implements AutoCloseable {
        final Connection connection;
        final Map<String, PreparedStatement> statements = new LinkedHashMap<>();

        Client() throws SQLException {
            this(System.getenv("PGDATABASE"));
        }

        Client(String database) throws SQLException {
            Map<String, String> environment = System.getenv();
            Properties login = new Properties();
            login.setProperty("user", environment.get("PGUSER"));
            login.setProperty("password", environment.get("PGPASSWORD"));
            String place = environment.get("PGHOST") + ":" + environment.get("PGPORT");
            connection = DriverManager.getConnection(
                    "jdbc:postgresql://" + place + "/" + database, login);
        }

        /** The rows of a query by a statement that stays open, and so is prepared on the server the fifth time. */
        List<List<Object>> prepared(String sql, Object... values) throws SQLException {
            PreparedStatement statement = statements.get(sql);
            if (statement == null) {
                statement = connection.prepareStatement(sql);
                statements.put(sql, statement);
            }
            for (int at = 0; at < values.length; at++) {
                statement.setObject(at + 1, values[at]);
            }
            if (!statement.execute()) {
                return List.of();
            }
            return rows(statement.getResultSet());
        }

        /** The first text of a query. */
        String text(String sql) throws SQLException {
            List<List<Object>> rows = prepared(sql);
            return rows.isEmpty() ? null : (String) rows.get(0).get(0);
        }

        void run(String sql) throws SQLException {
            try (Statement statement = connection.createStatement()) {
                statement.execute(sql);
            }
        }

        void begin() throws SQLException {
            connection.setAutoCommit(false);
        }

        void commit() throws SQLException {
            connection.commit();
            connection.setAutoCommit(true);
        }

        void rollback() throws SQLException {
            connection.rollback();
            connection.setAutoCommit(true);
        }

        public void close() throws SQLException {
            connection.close();
        }
    }

    static List<List<Object>> rows(ResultSet result) throws SQLException {
        List<List<Object>> rows = new ArrayList<>();
        int columns = result.getMetaData().getColumnCount();
        while (result.next()) {
            List<Object> row = new ArrayList<>();
            for (int column = 1; column <= columns; column++) {
                row.add(result.getObject(column));
            }
            rows.add(row);
        }
        result.close();
        return rows;
    }

    /**
     * Clients that work in turns, and one more that only holds a backend. A pool lends the backend that came back last, so
     * clients that work one after the other would all use the same one. In every second turn of each client the last one
     * is in a transaction, and so the client gets another backend than in its turn before.
     */
    static class Crowd implements AutoCloseable {
        final List<Client> clients = new ArrayList<>();
        Client last;

        Crowd(int size) throws SQLException {
            try {
                for (int number = 0; number < size; number++) {
                    clients.add(new Client());
                }
                last = new Client();
            } catch (SQLException failure) {
                close();
                throw failure;
            }
        }

        void held(Body body) throws Exception {
            last.begin();
            last.text("select 'held'");
            body.run();
            last.commit();
        }

        void turns(int rounds, Turn turn) throws Exception {
            for (int round = 0; round < rounds; round++) {
                for (int at = 0; at < clients.size(); at++) {
                    int number = at;
                    if ((round + number) % 2 == 1) {
                        held(() -> turn.run(clients.get(number), number));
                    } else {
                        turn.run(clients.get(number), number);
                    }
                }
            }
        }

        public void close() throws SQLException {
            for (Client client : clients) {
                client.close();
            }
            if (last != null) {
                last.close();
            }
        }
    }

    interface CrowdBody {
        void run(Crowd crowd) throws Exception;
    }

    static Body with(int size, CrowdBody body) {
        return () -> {
            try (Crowd crowd = new Crowd(size)) {
                body.run(crowd);
            }
        };
    }

    static void equal(Object got, Object expected) {
        if (!Objects.deepEquals(got, expected)) {
            throw new AssertionError("got " + show(got) + ", expected " + show(expected));
        }
    }

    static String show(Object value) {
        return value instanceof Object[] array ? Arrays.deepToString(array) : String.valueOf(value);
    }

    static void fails(String state, Body body) throws Exception {
        try {
            body.run();
        } catch (SQLException failure) {
            if (state.equals(failure.getSQLState())) {
                return;
            }
            throw failure;
        }
        throw new AssertionError("there was no error " + state);
    }

    /** The work of each client in a thread of its own. */
    static void atOnce(Crowd crowd, Turn work) throws Exception {
        var workers = Executors.newFixedThreadPool(crowd.clients.size());
        List<Future<?>> ends = new ArrayList<>();
        for (int at = 0; at < crowd.clients.size(); at++) {
            int number = at;
            ends.add(workers.submit(() -> {
                work.run(crowd.clients.get(number), number);
                return null;
            }));
        }
        workers.shutdown();
        for (Future<?> end : ends) {
            end.get();
        }
    }
}
