-- Who holds this server's connection slots, and what is wrong with that: the core of `pgpool doctor` in SQL, for
-- PostgreSQL 12 and newer. Run by a superuser, in a database that your monitoring connects to:
--
--     psql -d postgres -f contrib/check_connection_health.sql
--
--     SELECT * FROM connection_slots;             -- the arithmetic
--     SELECT * FROM connection_holders;           -- who has how many, in which state, since when
--     SELECT * FROM check_connection_health();    -- findings, the worst first; none is good news
--     SELECT * FROM check_connection_health(warn_percent => 70, leak_age => '1h');
--
-- Roles see what pg_stat_activity shows them: GRANT pg_monitor TO the monitoring role.
-- Codes and messages are explained in docs/doctor.md. To remove: DROP VIEW connection_slots CASCADE;
-- DROP VIEW connection_holders; DROP FUNCTION check_connection_health.

BEGIN;

CREATE OR REPLACE VIEW connection_slots AS
SELECT max_connections,
       superuser_reserved,
       reserved,
       max_connections - superuser_reserved - reserved AS ordinary,
       used,
       greatest(0, max_connections - superuser_reserved - reserved - used) AS left_over,
       round(used * 100.0 / greatest(1, max_connections - superuser_reserved - reserved), 1) AS percent
FROM (SELECT current_setting('max_connections')::int AS max_connections,
             current_setting('superuser_reserved_connections')::int AS superuser_reserved,
             coalesce(nullif(current_setting('reserved_connections', true), ''), '0')::int
               + coalesce(nullif(current_setting('rds.rds_superuser_reserved_connections', true), ''), '0')::int AS reserved,
             -- A role without pg_monitor sees of others' sessions no backend_type.
             (SELECT count(*)::int FROM pg_catalog.pg_stat_activity
              WHERE pid <> pg_backend_pid()
                AND (backend_type = 'client backend'
                     OR backend_type IS NULL AND usesysid IS NOT NULL AND datid IS NOT NULL)) AS used) AS s;

CREATE OR REPLACE VIEW connection_holders AS
SELECT usename AS role,
       datname AS database,
       application_name AS application,
       coalesce(host(client_addr), CASE WHEN client_port = -1 THEN 'local' END) AS address,
       coalesce(state, '(hidden)') AS state,
       count(*)::int AS connections,
       greatest(interval '0', max(clock_timestamp() - state_change)) AS oldest
FROM pg_catalog.pg_stat_activity
WHERE pid <> pg_backend_pid()
  AND (backend_type = 'client backend' OR backend_type IS NULL AND usesysid IS NOT NULL AND datid IS NOT NULL)
GROUP BY 1, 2, 3, 4, 5
ORDER BY connections DESC, oldest DESC;

CREATE OR REPLACE FUNCTION check_connection_health(
    warn_percent numeric DEFAULT 80,
    critical_percent numeric DEFAULT 95,
    leak_age interval DEFAULT '10min',
    transaction_age interval DEFAULT '5min')
RETURNS TABLE (severity text, code text, message text)
LANGUAGE plpgsql VOLATILE
AS $function$
BEGIN
    RETURN QUERY
    WITH found AS (
        SELECT CASE WHEN s.percent >= critical_percent THEN 2 ELSE 1 END AS rank, 'slots' AS what,
               format('%s%% of the slots for ordinary roles are taken: %s of %s, %s left',
                      s.percent, s.used, s.ordinary, s.left_over) AS told
        FROM connection_slots s
        WHERE s.percent >= warn_percent
        UNION ALL
        SELECT CASE WHEN l.used * 100.0 / greatest(1, l.most) >= critical_percent THEN 2 ELSE 1 END, 'own_limit',
               format('the %s "%s" has %s of the %s connections that it may have (CONNECTION LIMIT)',
                      l.kind, l.name, l.used, l.most)
        FROM (SELECT 'role' AS kind, r.rolname AS name, r.rolconnlimit AS most,
                     (SELECT count(*) FROM pg_catalog.pg_stat_activity a
                      WHERE a.usesysid = r.oid AND a.datid IS NOT NULL) AS used
              FROM pg_catalog.pg_roles r WHERE r.rolconnlimit >= 0 AND r.rolcanlogin AND NOT r.rolsuper
              UNION ALL
              SELECT 'database', d.datname, d.datconnlimit,
                     (SELECT count(*) FROM pg_catalog.pg_stat_activity a
                      WHERE a.datid = d.oid AND a.usesysid IS NOT NULL)
              FROM pg_catalog.pg_database d WHERE d.datconnlimit >= 0 AND d.datallowconn) l
        WHERE (l.most > 0 OR l.used > 0) AND l.used * 100.0 / greatest(1, l.most) >= warn_percent
        UNION ALL
        SELECT 1, 'idle_in_transaction',
               format('process %s (%s@%s %s) has been idle in a transaction for %s', a.pid, a.usename, a.datname,
                      coalesce(nullif(a.application_name, ''), '(no application_name)'),
                      date_trunc('second', clock_timestamp() - a.state_change))
        FROM pg_catalog.pg_stat_activity a
        WHERE a.state LIKE 'idle in transaction%' AND clock_timestamp() - a.state_change >= transaction_age
        UNION ALL
        SELECT 1, 'blocked',
               format('process %s waits for a lock of process %s (%s@%s %s), which is idle in a transaction',
                      w.pid, b.pid, b.usename, b.datname,
                      coalesce(nullif(b.application_name, ''), '(no application_name)'))
        FROM pg_catalog.pg_stat_activity w
        JOIN pg_catalog.pg_stat_activity b ON b.pid = ANY (pg_blocking_pids(w.pid))
        WHERE w.wait_event_type = 'Lock' AND b.state LIKE 'idle in transaction%'
        UNION ALL
        SELECT 1, 'prepared_transaction',
               format('the prepared transaction ''%s'' of %s in %s is %s old: it holds its locks until somebody ends it',
                      p.gid, p.owner, p.database, date_trunc('second', clock_timestamp() - p.prepared))
        FROM pg_catalog.pg_prepared_xacts p
        WHERE clock_timestamp() - p.prepared >= transaction_age
        UNION ALL
        SELECT 1, 'leaked_pool',
               format('%s connections of %s (%s@%s from %s) have been idle for %s and more', count(*),
                      coalesce(nullif(a.application_name, ''), '(no application_name)'), a.usename, a.datname,
                      coalesce(host(a.client_addr), 'local'), leak_age)
        FROM pg_catalog.pg_stat_activity a
        WHERE a.state LIKE 'idle%' AND a.backend_type = 'client backend' AND a.pid <> pg_backend_pid()
          AND clock_timestamp() - a.state_change >= leak_age
        GROUP BY a.application_name, a.usename, a.datname, a.client_addr
        HAVING count(*) >= 3
        UNION ALL
        SELECT CASE WHEN r.retained >= 1073741824 THEN 1 ELSE 0 END, 'inactive_replication_slot',
               format('nobody uses the %s replication slot "%s", which retains %s MB of WAL', r.slot_type, r.slot_name,
                      (coalesce(r.retained, 0) / 1048576)::bigint)
        FROM (SELECT slot_type, slot_name,
                     pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn()
                                          ELSE pg_current_wal_lsn() END, restart_lsn) AS retained
              FROM pg_catalog.pg_replication_slots WHERE NOT active) r
        UNION ALL
        SELECT 0, 'pending_restart',
               'changed in the files, in force after a restart: ' || string_agg(s.name, ', ' ORDER BY s.name)
        FROM pg_catalog.pg_settings s WHERE s.pending_restart
        HAVING count(*) > 0
        UNION ALL
        SELECT 0, 'no_timeout', 'idle_in_transaction_session_timeout is off: a transaction may be left open for ever'
        FROM pg_catalog.pg_settings s WHERE s.name = 'idle_in_transaction_session_timeout' AND s.reset_val = '0'
        UNION ALL
        SELECT 0, 'hidden',
               format('"%s" may not see the sessions of other roles; a superuser can run: GRANT pg_monitor TO %I',
                      current_user, current_user)
        WHERE NOT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')
    )
    SELECT (ARRAY['info', 'warning', 'critical'])[f.rank + 1], f.what, f.told FROM found f ORDER BY f.rank DESC, f.what;
END
$function$;

COMMENT ON FUNCTION check_connection_health(numeric, numeric, interval, interval)
    IS 'what is wrong with the connections to this server, the worst first';

COMMIT;
