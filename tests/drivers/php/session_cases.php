<?php
// The cases that are SQL. A Client has `texts(sql)`, the first column of each row; `text(sql)`, the first of them;
// `run(sql)`; `begin`, `commit`, `rollback`.

crowd_test('clients_share_backends', 5, function (Crowd $crowd) {
    $seen = [];
    $crowd->turns(4, function ($client, $number) use (&$seen) {
        $seen[$number][$client->text('select pg_backend_pid()::text')] = true;
    });
    equal(array_map('count', array_values($seen)), array_fill(0, 5, BACKENDS ? 2 : 1));
    equal(count(array_replace(...$seen)), BACKENDS ?: 5);
});

crowd_test('many_connections', 12, function (Crowd $crowd) {
    for ($number = 0; $number < 40; $number++) {
        $client = new Client();
        equal($client->text("select '$number'"), "$number");
        $client->close();
    }
    $crowd->turns(2, fn ($client, $number) => equal($client->text("select '$number'"), "$number"));
});

crowd_test('commit_and_rollback', 5, function (Crowd $crowd) {
    $crowd->last->run('delete from account');
    $crowd->turns(4, function ($client, $number) {
        $client->begin();
        $client->run("insert into account values ($number, 'kept', 1)
            on conflict (id) do update set balance = account.balance + 1");
        $client->commit();
        $client->begin();
        $client->run("update account set owner = 'lost' where id = $number");
        $client->rollback();
    });
    equal($crowd->last->texts("select concat_ws(' ', id, owner, balance) from account order by id"),
        ['0 kept 4', '1 kept 4', '2 kept 4', '3 kept 4', '4 kept 4']);
});

crowd_test('failed_statement', 5, function (Crowd $crowd) {
    $crowd->turns(4, function ($client, $number) {
        $client->begin();
        fails('22012', fn () => $client->text('select (1 / 0)::text'));
        fails('25P02', fn () => $client->text("select 'in a failed transaction'"));
        $client->rollback();
        fails('42P01', fn () => $client->text('select x::text from no_such_table'));
        equal($client->text("select '$number'"), "$number");
    });
});

crowd_test('savepoints', 5, function (Crowd $crowd) {
    $crowd->last->run('delete from account');
    $crowd->turns(2, function ($client, $number) {
        $client->begin();
        $client->run("insert into account values ($number, 'a', 1) on conflict do nothing");
        $client->run('savepoint before');
        fails('23505', fn () => $client->run("insert into account values ($number, 'b', 2)"));
        $client->run('rollback to savepoint before');
        $client->run("update account set balance = balance + 10 where id = $number");
        $client->commit();
    });
    equal($crowd->last->text('select sum(balance) || min(owner) from account'), '105a');
});

const ZONES = ['Europe/Berlin', 'Asia/Tokyo', 'America/New_York', 'Africa/Cairo', 'Australia/Sydney'];
const CUSTOM = "select coalesce(current_setting('app.custom', true), '')";
const SETTINGS = "select concat_ws(' ', current_setting('TimeZone'), current_setting('statement_timeout'),
    current_setting('app.custom', true))";

function each_sees_its_own(Crowd $crowd): void
{
    $crowd->turns(6, fn ($client, $number) =>
        equal($client->text(SETTINGS), ZONES[$number] . ' ' . (10001 + $number) . "ms value $number"));
    // The one that only held a backend has set nothing.
    equal(trim($crowd->last->text(SETTINGS)), 'UTC 0');
    foreach ($crowd->clients as $client) {
        $client->run('reset timezone');
        $client->run('reset statement_timeout');
        $client->run('reset app.custom');
    }
    $crowd->turns(2, fn ($client) => equal(trim($client->text(SETTINGS)), 'UTC 0'));
}

crowd_test('set_settings', 5, function (Crowd $crowd) {
    $crowd->turns(1, function ($client, $number) {
        $client->run("set timezone to '" . ZONES[$number] . "'");
        $client->run('set statement_timeout = ' . (10001 + $number));
        $client->run("set app.custom = 'value $number'");
    });
    each_sees_its_own($crowd);
});

crowd_test('set_config', 5, function (Crowd $crowd) {
    $crowd->turns(1, function ($client, $number) {
        $client->text("select set_config('TimeZone', '" . ZONES[$number] . "', false)");
        $client->text("select set_config('statement_timeout', '" . (10001 + $number) . "', false)");
        $client->text("select set_config('app.custom', 'value $number', false)");
    });
    each_sees_its_own($crowd);
});

crowd_test('set_in_transactions', 5, function (Crowd $crowd) {
    $crowd->turns(1, function ($client, $number) {
        $client->begin();
        $client->run("set app.custom = 'kept $number'");
        $client->commit();
    });
    $crowd->turns(2, function ($client) {
        $client->begin();
        $client->run("set app.custom = 'rolled back'");
        equal($client->text(CUSTOM), 'rolled back');
        $client->rollback();
        $client->begin();
        $client->run("set local app.custom = 'local'");
        equal($client->text(CUSTOM), 'local');
        $client->commit();
    });
    $crowd->turns(2, fn ($client, $number) => equal($client->text(CUSTOM), "kept $number"));
});

crowd_test('search_path', 5, function (Crowd $crowd) {
    $crowd->turns(1, function ($client, $number) {
        $client->run("create schema if not exists tenant_$number");
        $client->run("create table if not exists tenant_$number.thing as select 'of $number'::text as name");
        $client->run("set search_path = tenant_$number");
    });
    $crowd->turns(8, fn ($client, $number) => equal($client->text('select name from thing'), "of $number"));
    fails('42P01', fn () => $crowd->last->text('select name from thing'));
});

crowd_test('sql_prepare', 5, function (Crowd $crowd) {
    $crowd->turns(1, fn ($client, $number) =>
        $client->run('prepare plan_a (int) as select ($1 + ' . 100 * $number . ')::text'));
    $crowd->turns(4, fn ($client, $number) => equal($client->text('execute plan_a(1)'), (string) (100 * $number + 1)));
    $first = $crowd->clients[0];
    fails('26000', fn () => $crowd->last->text('execute plan_a(1)'));
    $first->run('deallocate plan_a');
    fails('26000', fn () => $first->text('execute plan_a(2)'));
    for ($number = 1; $number < 5; $number++) {
        equal($crowd->clients[$number]->text('execute plan_a(3)'), (string) (100 * $number + 3));
    }
    $first->run("prepare plan_a as select 'again'");
    $crowd->held(fn () => equal($first->text('execute plan_a'), 'again'));
});

crowd_test('statement_timeout', 2, function (Crowd $crowd) {
    [$hasty, $patient] = $crowd->clients;
    $nap = "select 'slept' || pg_sleep(0.3)::text";
    $hasty->run('set statement_timeout = 100');
    $crowd->held(fn () => fails('57014', fn () => $hasty->text('select pg_sleep(10)::text')));
    equal($patient->text($nap), 'slept');
    fails('57014', fn () => $hasty->text('select pg_sleep(10)::text'));
    $hasty->run('set statement_timeout = 0');
    $crowd->held(fn () => equal($hasty->text($nap), 'slept'));
});

// What PostgreSQL keeps for a session: one client at a time has some, so that the others have a backend left.

crowd_test('temp_table', 5, function (Crowd $crowd) {
    $exists = "select (to_regclass('pg_temp.scratch') is not null)::text";
    for ($at = 0; $at < 4; $at++) {
        [$owner, $other] = array_slice($crowd->clients, $at, 2);
        $owner->run('create temp table scratch (n int)');
        for ($count = 1; $count < 5; $count++) {
            $crowd->held(function () use ($owner, $count) {
                $owner->begin();
                $owner->run("insert into scratch values ($count)");
                $owner->commit();
                equal($owner->texts('select n::text from scratch order by n'), array_map('strval', range(1, $count)));
            });
            equal($other->text($exists), 'false');
        }
        $owner->run('drop table scratch');
        foreach ($crowd->clients as $client) {
            equal($client->text($exists), 'false');
        }
    }
});

crowd_test('advisory_lock', 5, function (Crowd $crowd) {
    for ($at = 0; $at < 4; $at++) {
        [$owner, $other] = array_slice($crowd->clients, $at, 2);
        $owner->text('select pg_advisory_lock(4711)::text');
        for ($again = 0; $again < 3; $again++) {
            $crowd->held(fn () => equal($owner->text("select 'still here'"), 'still here'));
            equal($other->text('select pg_try_advisory_xact_lock(4711)::text'), 'false');
        }
        $crowd->held(fn () => equal($owner->text('select pg_advisory_unlock(4711)::text'), 'true'));
        equal($other->text('select pg_try_advisory_lock(4711)::text'), 'true');
        equal($other->text('select pg_advisory_unlock(4711)::text'), 'true');
    }
});

crowd_test('cursor_with_hold', 5, function (Crowd $crowd) {
    for ($at = 0; $at < 4; $at++) {
        [$owner, $other] = array_slice($crowd->clients, $at, 2);
        $owner->begin();
        $owner->run('declare held cursor with hold for select n::text from generate_series(1, 9) n');
        equal($owner->texts('fetch 2 from held'), ['1', '2']);
        $owner->commit();
        $crowd->held(fn () => equal($owner->texts('fetch 3 from held'), ['3', '4', '5']));
        fails('34000', fn () => $other->texts('fetch 1 from held'));
        $owner->run('close held');
        fails('34000', fn () => $owner->texts('fetch 1 from held'));
    }
});

crowd_test('discard_all', 5, function (Crowd $crowd) {
    [$first, $second] = $crowd->clients;
    $second->run("set app.custom = 'of the second'");
    $first->run("set app.custom = 'of the first'");
    $first->run("prepare plan_b as select 'b'");
    $first->run('create temp table scratch (n int)');
    $first->text('select pg_advisory_lock(4712)::text');
    $first->run('discard all');
    for ($again = 0; $again < 2; $again++) {
        $crowd->held(function () use ($first) {
            equal($first->text(CUSTOM), '');
            equal($first->text("select (to_regclass('pg_temp.scratch') is null)::text"), 'true');
        });
        equal($second->text(CUSTOM), 'of the second');
    }
    fails('26000', fn () => $first->text('execute plan_b'));
    equal($second->text('select pg_try_advisory_lock(4712)::text'), 'true');
    equal($second->text('select pg_advisory_unlock(4712)::text'), 'true');
    $second->run('reset app.custom');
});
