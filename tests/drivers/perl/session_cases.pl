# The cases that are SQL. A Client has `texts(sql)`, the first column of each row; `text(sql)`, the first of them;
# `run(sql)`; `begin`, `commit`, `rollback`.

use strict;
use warnings;

crowd_test('clients_share_backends', 5, sub {
    my ($crowd) = @_;
    my (@seen, %all);
    $crowd->turns(4, sub {
        my ($client, $number) = @_;
        my $pid = $client->text('select pg_backend_pid()::text');
        $seen[$number]{$pid} = $all{$pid} = 1;
    });
    equal([map { scalar keys %$_ } @seen], [(backends() ? 2 : 1) x 5]);
    equal(scalar keys %all, backends() || 5);
});

crowd_test('many_connections', 12, sub {
    my ($crowd) = @_;
    for my $number (0 .. 39) {
        my $client = Client->new;
        equal($client->text("select '$number'"), $number);
        $client->close;
    }
    $crowd->turns(2, sub { equal($_[0]->text("select '$_[1]'"), $_[1]) });
});

crowd_test('commit_and_rollback', 5, sub {
    my ($crowd) = @_;
    $crowd->last_one->run('delete from account');
    $crowd->turns(4, sub {
        my ($client, $number) = @_;
        $client->begin;
        $client->run("insert into account values ($number, 'kept', 1)
            on conflict (id) do update set balance = account.balance + 1");
        $client->commit;
        $client->begin;
        $client->run("update account set owner = 'lost' where id = $number");
        $client->rollback;
    });
    equal($crowd->last_one->texts(q{select concat_ws(' ', id, owner, balance) from account order by id}),
        [map { "$_ kept 4" } 0 .. 4]);
});

crowd_test('failed_statement', 5, sub {
    my ($crowd) = @_;
    $crowd->turns(4, sub {
        my ($client, $number) = @_;
        $client->begin;
        fails('22012', sub { $client->text('select (1 / 0)::text') });
        fails('25P02', sub { $client->text(q{select 'in a failed transaction'}) });
        $client->rollback;
        fails('42P01', sub { $client->text('select x::text from no_such_table') });
        equal($client->text("select '$number'"), $number);
    });
});

crowd_test('savepoints', 5, sub {
    my ($crowd) = @_;
    $crowd->last_one->run('delete from account');
    $crowd->turns(2, sub {
        my ($client, $number) = @_;
        $client->begin;
        $client->run("insert into account values ($number, 'a', 1) on conflict do nothing");
        $client->run('savepoint before');
        fails('23505', sub { $client->run("insert into account values ($number, 'b', 2)") });
        $client->run('rollback to savepoint before');
        $client->run("update account set balance = balance + 10 where id = $number");
        $client->commit;
    });
    equal($crowd->last_one->text('select sum(balance) || min(owner) from account'), '105a');
});

my @zones = qw(Europe/Berlin Asia/Tokyo America/New_York Africa/Cairo Australia/Sydney);
my $custom = q{select coalesce(current_setting('app.custom', true), '')};
my $settings = q{select trim(concat_ws(' ', current_setting('TimeZone'), current_setting('statement_timeout'),
    current_setting('app.custom', true)))};

sub each_sees_its_own {
    my ($crowd) = @_;
    $crowd->turns(6, sub {
        my ($client, $number) = @_;
        equal($client->text($settings), "$zones[$number] " . (10001 + $number) . "ms value $number");
    });
    # The one that only held a backend has set nothing.
    equal($crowd->last_one->text($settings), 'UTC 0');
    for my $client ($crowd->clients) {
        $client->run("reset $_") for qw(timezone statement_timeout app.custom);
    }
    $crowd->turns(2, sub { equal($_[0]->text($settings), 'UTC 0') });
    return;
}

crowd_test('set_settings', 5, sub {
    my ($crowd) = @_;
    $crowd->turns(1, sub {
        my ($client, $number) = @_;
        $client->run("set timezone to '$zones[$number]'");
        $client->run('set statement_timeout = ' . (10001 + $number));
        $client->run("set app.custom = 'value $number'");
    });
    each_sees_its_own($crowd);
});

crowd_test('set_config', 5, sub {
    my ($crowd) = @_;
    $crowd->turns(1, sub {
        my ($client, $number) = @_;
        $client->text("select set_config('TimeZone', '$zones[$number]', false)");
        $client->text("select set_config('statement_timeout', '" . (10001 + $number) . q{', false)});
        $client->text("select set_config('app.custom', 'value $number', false)");
    });
    each_sees_its_own($crowd);
});

crowd_test('set_in_transactions', 5, sub {
    my ($crowd) = @_;
    $crowd->turns(1, sub {
        my ($client, $number) = @_;
        $client->begin;
        $client->run("set app.custom = 'kept $number'");
        $client->commit;
    });
    $crowd->turns(2, sub {
        my ($client) = @_;
        $client->begin;
        $client->run(q{set app.custom = 'rolled back'});
        equal($client->text($custom), 'rolled back');
        $client->rollback;
        $client->begin;
        $client->run(q{set local app.custom = 'local'});
        equal($client->text($custom), 'local');
        $client->commit;
    });
    $crowd->turns(2, sub { equal($_[0]->text($custom), "kept $_[1]") });
});

crowd_test('search_path', 5, sub {
    my ($crowd) = @_;
    $crowd->turns(1, sub {
        my ($client, $number) = @_;
        $client->run("create schema if not exists tenant_$number");
        $client->run("create table if not exists tenant_$number.thing as select 'of $number'::text as name");
        $client->run("set search_path = tenant_$number");
    });
    $crowd->turns(8, sub { equal($_[0]->text('select name from thing'), "of $_[1]") });
    fails('42P01', sub { $crowd->last_one->text('select name from thing') });
});

crowd_test('sql_prepare', 5, sub {
    my ($crowd) = @_;
    $crowd->turns(1, sub {
        my ($client, $number) = @_;
        $client->run('prepare plan_a (int) as select (1 + $1 - 1 + ' . 100 * $number . ')::text');
    });
    $crowd->turns(4, sub { equal($_[0]->text('execute plan_a(1)'), 100 * $_[1] + 1) });
    my ($first, @others) = $crowd->clients;
    fails('26000', sub { $crowd->last_one->text('execute plan_a(1)') });
    $first->run('deallocate plan_a');
    fails('26000', sub { $first->text('execute plan_a(2)') });
    equal($others[$_]->text('execute plan_a(3)'), 100 * $_ + 103) for 0 .. $#others;
    $first->run(q{prepare plan_a as select 'again'});
    $crowd->held(sub { equal($first->text('execute plan_a'), 'again') });
});

crowd_test('statement_timeout', 2, sub {
    my ($crowd) = @_;
    my ($hasty, $patient) = $crowd->clients;
    my $nap = q{select 'slept' || pg_sleep(0.3)::text};
    $hasty->run('set statement_timeout = 100');
    $crowd->held(sub { fails('57014', sub { $hasty->text('select pg_sleep(10)::text') }) });
    equal($patient->text($nap), 'slept');
    fails('57014', sub { $hasty->text('select pg_sleep(10)::text') });
    $hasty->run('set statement_timeout = 0');
    $crowd->held(sub { equal($hasty->text($nap), 'slept') });
});

# What PostgreSQL keeps for a session: one client at a time has some, so that the others have a backend left.

sub pairs {
    my @clients = @_;
    return map { [@clients[$_, $_ + 1]] } 0 .. $#clients - 1;
}

crowd_test('temp_table', 5, sub {
    my ($crowd) = @_;
    my $exists = q{select (to_regclass('pg_temp.scratch') is not null)::text};
    for (pairs($crowd->clients)) {
        my ($owner, $other) = @$_;
        $owner->run('create temp table scratch (n int)');
        for my $count (1 .. 4) {
            $crowd->held(sub {
                $owner->begin;
                $owner->run("insert into scratch values ($count)");
                $owner->commit;
                equal($owner->texts('select n::text from scratch order by n'), [1 .. $count]);
            });
            equal($other->text($exists), 'false');
        }
        $owner->run('drop table scratch');
        equal($_->text($exists), 'false') for $crowd->clients;
    }
});

crowd_test('advisory_lock', 5, sub {
    my ($crowd) = @_;
    for (pairs($crowd->clients)) {
        my ($owner, $other) = @$_;
        $owner->text('select pg_advisory_lock(4711)::text');
        for (1 .. 3) {
            $crowd->held(sub { equal($owner->text(q{select 'still here'}), 'still here') });
            equal($other->text('select pg_try_advisory_xact_lock(4711)::text'), 'false');
        }
        $crowd->held(sub { equal($owner->text('select pg_advisory_unlock(4711)::text'), 'true') });
        equal($other->text('select pg_try_advisory_lock(4711)::text'), 'true');
        equal($other->text('select pg_advisory_unlock(4711)::text'), 'true');
    }
});

crowd_test('cursor_with_hold', 5, sub {
    my ($crowd) = @_;
    for (pairs($crowd->clients)) {
        my ($owner, $other) = @$_;
        $owner->begin;
        $owner->run('declare held cursor with hold for select n::text from generate_series(1, 9) n');
        equal($owner->texts('fetch 2 from held'), [1, 2]);
        $owner->commit;
        $crowd->held(sub { equal($owner->texts('fetch 3 from held'), [3, 4, 5]) });
        fails('34000', sub { $other->texts('fetch 1 from held') });
        $owner->run('close held');
        fails('34000', sub { $owner->texts('fetch 1 from held') });
    }
});

crowd_test('discard_all', 5, sub {
    my ($crowd) = @_;
    my ($first, $second) = $crowd->clients;
    $second->run(q{set app.custom = 'of the second'});
    $first->run(q{set app.custom = 'of the first'});
    $first->run(q{prepare plan_b as select 'b'});
    $first->run('create temp table scratch (n int)');
    $first->text('select pg_advisory_lock(4712)::text');
    $first->run('discard all');
    for (1 .. 2) {
        $crowd->held(sub {
            equal($first->text($custom), '');
            equal($first->text(q{select (to_regclass('pg_temp.scratch') is null)::text}), 'true');
        });
        equal($second->text($custom), 'of the second');
    }
    fails('26000', sub { $first->text('execute plan_b') });
    equal($second->text('select pg_try_advisory_lock(4712)::text'), 'true');
    equal($second->text('select pg_advisory_unlock(4712)::text'), 'true');
    $second->run('reset app.custom');
});

1;
