<?php
// What PHP programs share: registering and running cases, and several clients at work in turns.

define('BACKENDS', (int) (getenv('PGPOOL_BACKENDS') ?: 0));

$cases = [];

function test(string $name, callable $body): void
{
    global $cases;
    $cases[$name] = $body;
}

/** A case with some clients, which are closed behind it. */
function crowd_test(string $name, int $size, callable $body): void
{
    test($name, function () use ($size, $body) {
        $crowd = new Crowd($size);
        try {
            $body($crowd);
        } finally {
            $crowd->close();
        }
    });
}

function main(string $driver, string $version): void
{
    global $cases, $argv;
    $chosen = array_slice($argv, 1) ?: array_keys($cases);
    echo 'plan ', implode(' ', $chosen), "\n";
    foreach ($chosen as $name) {
        try {
            $cases[$name]();
            echo "ok $name\n";
        } catch (Throwable $error) {
            $text = preg_replace('/\s+/', ' ', $error->getMessage());
            echo "not ok $name: ", place($error), ': ', get_class($error), ': ', substr($text, 0, 400), "\n";
        }
    }
    echo "version $driver $version\n";
}

function place(Throwable $error): string
{
    foreach ([['file' => $error->getFile(), 'line' => $error->getLine()], ...$error->getTrace()] as $frame) {
        if (str_ends_with($frame['file'] ?? '', '_cases.php')) {
            return basename($frame['file']) . ":{$frame['line']}";
        }
    }
    return '?';
}

function equal(mixed $got, mixed $expected): void
{
    if ($got !== $expected) {
        throw new Exception('got ' . var_export($got, true) . ', expected ' . var_export($expected, true));
    }
}

/** The work has to fail with this SQLSTATE. */
function fails(string $sqlstate, callable $work): void
{
    try {
        $work();
    } catch (PDOException $error) {
        if (($error->errorInfo[0] ?? $error->getCode()) === $sqlstate) {
            return;
        }
        throw $error;
    }
    throw new Exception("there was no error $sqlstate");
}

/**
 * Clients that work in turns, and one more that only holds a backend. A pool lends the backend that came back last, so
 * clients that work one after the other would all use the same one. In every second turn of each client the last one is
 * in a transaction, and so the client gets another backend than in its turn before.
 */
class Crowd
{
    public array $clients = [];
    public ?Client $last;

    public function __construct(int $size)
    {
        for ($number = 0; $number < $size; $number++) {
            $this->clients[] = new Client();
        }
        $this->last = new Client();
    }

    public function close(): void
    {
        foreach ($this->clients as $client) {
            $client->close();
        }
        $this->last->close();
    }

    public function held(callable $work): void
    {
        $this->last->begin();
        $this->last->text("select 'held'");
        $work();
        $this->last->commit();
    }

    public function turns(int $rounds, callable $work): void
    {
        for ($turn = 0; $turn < $rounds; $turn++) {
            foreach ($this->clients as $number => $client) {
                if (($turn + $number) % 2) {
                    $this->held(fn () => $work($client, $number));
                } else {
                    $work($client, $number);
                }
            }
        }
    }
}
