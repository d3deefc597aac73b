# What the Ruby programs share: registering and running cases, and several clients at work in turns.

BACKENDS = ENV.fetch("PGPOOL_BACKENDS", "0").to_i
CASES = {}
$stdout.sync = true

def test(name, &body)
  CASES[name] = body
end

# A case with some clients, which are closed behind it.
def crowd_test(name, size = 5)
  test(name) do
    crowd = Crowd.new(size)
    yield crowd
  ensure
    crowd&.close
  end
end

def main(driver, version)
  chosen = ARGV.empty? ? CASES.keys : ARGV
  puts "plan #{chosen.join(' ')}"
  chosen.each do |name|
    CASES.fetch(name).call
    puts "ok #{name}"
  rescue StandardError => e
    place = e.backtrace.find { |line| line.include?("_cases.rb") }.to_s[/\w+\.rb:\d+/]
    puts "not ok #{name}: #{place}: #{e.class}: #{e.message.tr("\n", ' ')[0, 400]}"
  end
  puts "version #{driver} #{version}"
end

def equal(got, expected)
  raise "got #{got.inspect}, expected #{expected.inspect}" unless got == expected
end

# The block has to fail with this SQLSTATE.
def fails(sqlstate)
  yield
rescue StandardError => e
  cause = e
  cause = cause.cause while cause && !cause.respond_to?(:result)
  raise unless cause&.result&.error_field(PG::PG_DIAG_SQLSTATE) == sqlstate
else
  raise "there was no error #{sqlstate}"
end

# Clients that work in turns, and one more that only holds a backend. A pool lends the backend that came back last, so
# clients that work one after the other would all use the same one. In every second turn of each client the last one is in
# a transaction, and so the client gets another backend than in its turn before.
class Crowd
  attr_reader :clients, :last

  def initialize(size)
    @clients = []
    size.times { @clients << Client.new }
    @last = Client.new
  end

  def close
    [*@clients, @last].compact.each do |client|
      client.close
    rescue StandardError
      nil # It has failed before.
    end
  end

  def held
    @last.begin
    @last.text("select 'held'")
    yield
    @last.commit
  end

  def turns(rounds)
    rounds.times do |turn|
      @clients.each_with_index do |client, number|
        if (turn + number).odd?
          held { yield client, number }
        else
          yield client, number
        end
      end
    end
  end

  # The block for each client in a thread of its own.
  def at_once
    @clients.each_with_index.map do |client, number|
      Thread.new do
        Thread.current.report_on_exception = false
        yield client, number
      end
    end.each(&:join)
  end
end
