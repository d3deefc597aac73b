<?php
// PDO: a named statement for each prepare(), closed by DEALLOCATE when the object goes.

require __DIR__ . '/cases.php';

class Client
{
    public ?PDO $pdo;

    public function __construct()
    {
        $place = sprintf('host=%s;port=%s;dbname=%s', getenv('PGHOST'), getenv('PGPORT'), getenv('PGDATABASE'));
        $this->pdo = new PDO("pgsql:$place", getenv('PGUSER'), getenv('PGPASSWORD'));
    }

    public function prepared(string $sql, array $values = []): array
    {
        $statement = $this->pdo->prepare($sql);
        $statement->execute($values);
        return $statement->fetchAll(PDO::FETCH_NUM);
    }

    public function texts(string $sql): array
    {
        return array_column($this->prepared($sql), 0);
    }

    public function text(string $sql): ?string
    {
        return $this->texts($sql)[0] ?? null;
    }

    public function run(string $sql): void
    {
        $this->pdo->exec($sql);
    }

    public function begin(): void
    {
        $this->pdo->beginTransaction();
    }

    public function commit(): void
    {
        $this->pdo->commit();
    }

    public function rollback(): void
    {
        $this->pdo->rollBack();
    }

    public function close(): void
    {
        $this->pdo = null;
    }
}

crowd_test('connect', 5, function (Crowd $crowd) {
    $crowd->turns(2, fn ($client, $number) =>
        equal($client->prepared('select current_user::text, ?::int', [$number]), [['app', $number]]));
    equal((int) $crowd->last->pdo->getAttribute(PDO::ATTR_SERVER_VERSION) >= 15, true);
});

crowd_test('prepared', 5, function (Crowd $crowd) {
    $statements = [];
    foreach ($crowd->clients as $number => $client) {
        // The driver gives the same names on each connection.
        $statements[$number] = $client->pdo->prepare('select :n::int + ' . 100 * $number . ', :text::text');
    }
    $crowd->turns(20, function ($client, $number) use ($statements) {
        $statements[$number]->execute(['n' => $number, 'text' => "é'\\"]);
        equal($statements[$number]->fetchAll(PDO::FETCH_NUM), [[101 * $number, "é'\\"]]);
    });
    if (!BACKENDS) { // the driver has prepared by itself
        equal($crowd->clients[0]->text("select (count(*) > 0)::text from pg_prepared_statements"), 'true');
    }
});

crowd_test('prepared_many', 3, function (Crowd $crowd) {
    $crowd->turns(4, function ($client, $number) {
        for ($n = 0; $n < 50; $n++) {
            equal($client->prepared("select $n + ?::int", [$number]), [[$n + $number]]);
        }
    });
});

crowd_test('prepared_and_failing', 5, function (Crowd $crowd) {
    $divide = array_map(fn ($client) => $client->pdo->prepare('select 6 / ?::int'), $crowd->clients);
    $crowd->turns(6, function ($client, $number) use ($divide) {
        fails('22012', fn () => $divide[$number]->execute([0]));
        fails('42P01', fn () => $client->prepared('select * from no_such_table where x = ?', [1]));
        $divide[$number]->execute([$number + 1]);
        equal($divide[$number]->fetchColumn(), intdiv(6, $number + 1));
    });
});

crowd_test('emulated', 5, function (Crowd $crowd) {
    foreach ($crowd->clients as $client) {
        $client->pdo->setAttribute(PDO::ATTR_EMULATE_PREPARES, true);
    }
    $crowd->turns(4, fn ($client, $number) =>
        equal($client->prepared('select ?::int + 1, ?', [$number, "é'\\"]), [[$number + 1, "é'\\"]]));
});

crowd_test('types', 5, function (Crowd $crowd) {
    $sent = ['-2147483648', '9007199254740993', '12345678901234567890.000000001', '0.1', 'true',
        "Grüße, 世界 🐘 '\"\\", '2024-02-29 12:34:56.789012+00', '2024-02-29', '0b8f3c52-7d1e-4c55-9b1a-2f6f0c9d7e11',
        '{"list": [1, null, "é"]}', '{"deep": {"x": 1.5}}', '{3,-1,2}', '{"a b","ü,\"",""}', null];
    $columns = 'an_int, a_bigint, a_numeric, a_float, a_bool, a_text, a_timestamptz, a_date, a_uuid, a_json, a_jsonb,
        ints, texts, nothing';
    $bytes = "\x00\x01'\\\xfe\xff";
    $crowd->last->run('delete from everything');
    $crowd->turns(1, function ($client, $number) use ($sent, $columns, $bytes) {
        $marks = str_repeat(', ?', count($sent));
        $insert = $client->pdo->prepare("insert into everything (id, a_bytea, $columns) values (?, ? $marks)");
        foreach ([$number, $bytes, ...$sent] as $at => $value) {
            $insert->bindValue($at + 1, $value, $at === 1 ? PDO::PARAM_LOB : PDO::PARAM_STR);
        }
        $insert->execute();
        equal($insert->rowCount(), 1);
    });
    $got = [-2147483648, 9007199254740993, $sent[2], '0.1', true, ...array_slice($sent, 5)];
    $crowd->turns(4, function ($client, $number) use ($got, $columns, $bytes) {
        [$row] = $client->prepared("select $columns, a_bytea from everything where id = ?", [$number]);
        equal(stream_get_contents(array_pop($row)), $bytes);
        equal($row, $got);
    });
});

crowd_test('copy', 5, function (Crowd $crowd) {
    $crowd->last->run('delete from account');
    $crowd->turns(2, function ($client, $number) {
        $client->prepared('delete from account where id / 1000 = ?', [$number]);
        $lines = array_map(fn ($n) => 1000 * $number + $n . "\tähm $n\t$n\n", range(0, 499));
        equal($client->pdo->pgsqlCopyFromArray('account', $lines), true);
        $out = $client->pdo->pgsqlCopyToArray("(select * from account where id / 1000 = $number order by id)");
        equal($out, $lines);
        fails('23505', fn () => $client->pdo->pgsqlCopyFromArray('account', [$lines[0]]));
    });
    equal($crowd->last->text('select count(*)::text from account'), '2500');
});

crowd_test('cursor', 5, function (Crowd $crowd) {
    $crowd->turns(2, function ($client, $number) {
        $client->begin();
        $walk = $client->pdo->prepare('select n + ?::int from generate_series(1, 1000) n',
            [PDO::ATTR_CURSOR => PDO::CURSOR_SCROLL]);
        $walk->execute([$number]);
        $total = 0;
        while (($row = $walk->fetch(PDO::FETCH_NUM)) !== false) {
            $total += $row[0];
        }
        equal($total, 500500 + 1000 * $number);
        equal($walk->fetch(PDO::FETCH_NUM, PDO::FETCH_ORI_ABS, 10), [10 + $number]);
        $walk->closeCursor();
        $client->commit();
    });
});

crowd_test('large_objects', 5, function (Crowd $crowd) {
    $crowd->turns(2, function ($client, $number) {
        $client->begin();
        $oid = $client->pdo->pgsqlLOBCreate();
        $stream = $client->pdo->pgsqlLOBOpen($oid, 'w');
        fwrite($stream, str_repeat("object $number ", 2000));
        fclose($stream);
        $client->commit();
        $client->begin();
        $stream = $client->pdo->pgsqlLOBOpen($oid, 'r');
        equal(stream_get_contents($stream), str_repeat("object $number ", 2000));
        fclose($stream);
        equal($client->pdo->pgsqlLOBUnlink($oid), true);
        $client->commit();
    });
});

function notified(Client $client, int $milliseconds = 10000): ?string
{
    $news = $client->pdo->pgsqlGetNotify(PDO::FETCH_ASSOC, $milliseconds);
    return $news ? "{$news['message']}: {$news['payload']}" : null;
}

crowd_test('listen_notify', 3, function (Crowd $crowd) {
    [$listener, $sender, $other] = $crowd->clients;
    $listener->run('listen news');
    for ($number = 0; $number < 6; $number++) {
        $sender->prepared("select pg_notify('news', ?)", ["idle $number"]);
        equal($other->text("select 'somebody else'"), 'somebody else');
        equal(notified($listener), "news: idle $number");
    }
    $listener->begin();
    equal($listener->text("select 'busy'"), 'busy');
    $sender->run("notify news, 'in a transaction'");
    $listener->commit();
    equal(notified($listener), 'news: in a transaction');
    $listener->run('listen last');
    $listener->run('unlisten news');
    $sender->run("notify news, 'nobody'");
    $sender->run("notify last, 'the end'");
    equal(notified($listener), 'last: the end');
    equal([notified($sender, 50), notified($other, 50)], [null, null]);
    $listener->run('unlisten *');
});

// With PDO::ATTR_PERSISTENT the next `new PDO` of the same process gets the connection as it was left.
test('persistent', function () {
    $place = sprintf('pgsql:host=%s;port=%s;dbname=%s', getenv('PGHOST'), getenv('PGPORT'), getenv('PGDATABASE'));
    for ($number = 0; $number < 10; $number++) {
        $pdo = new PDO($place, getenv('PGUSER'), getenv('PGPASSWORD'), [PDO::ATTR_PERSISTENT => true]);
        $statement = $pdo->prepare("select coalesce(current_setting('app.custom', true), '')");
        $statement->execute();
        equal($statement->fetchColumn(), $number ? 'set ' . ($number - 1) : '');
        $pdo->exec("set app.custom = 'set $number'");
        $statement = null;
        $pdo = null;
    }
});

require __DIR__ . '/session_cases.php';
main('PDO', phpversion('pdo_pgsql'));
