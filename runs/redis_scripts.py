"""The scripts that Redis carries out, what one is asked to do, and what it answers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from runs.redis_keys import Field, server_key

NOW: Final = "local t = redis.call('TIME'); local now = t[1] * 1000 + math.floor(t[2] / 1000);"
OTHER_TYPE: Final = "WRONGTYPE"
"""How Redis says that a key is none of the type that a command is for."""

# Each record lies in a field of a hash, as its version, a space, and JSON. Writes what is asked if
# the versions of the records are those that are named, and as many connections to servers are held
# as are named; answers whether it did, the time, the records that are asked for, how many
# connections there were, and how long the lines are that are asked for. A record whose key is of
# another type is empty. A key of another type makes room for what is written, unless a run cannot
# do without what it held. A sum that is no number, or becomes too large for one, begins anew; what
# cannot be added at all is left out. What may be written until a certain time only is not written
# later.
DECIDE: Final = """
local asked = cjson.decode(ARGV[1])
local function read(key, field)
  local record = redis.pcall('HGET', key, field)
  if type(record) == 'table' then return '' end
  return record
end
local function is_needed(key)
  local is_list = string.find(key, ':leases$') or string.find(key, ':changed$')
  return string.find(key, ARGV[2], 1, true) == 1 and not is_list
end
local function is_no_number(problem)
  return string.find(problem, 'not an integer') or string.find(problem, 'not a float')
    or string.find(problem, 'would overflow') or string.find(problem, 'NaN or Infinity')
end
local function write(command)
  local reply = redis.pcall(unpack(command))
  if type(reply) ~= 'table' or not reply.err then return reply end
  if is_no_number(reply.err) then
    if command[1] == 'INCRBY' then
      redis.call('DEL', command[2])
    else
      redis.call('HDEL', command[2], command[3])
    end
    return redis.pcall(unpack(command))
  end
  if not is_needed(command[2]) and string.find(reply.err, 'WRONGTYPE', 1, true) then
    redis.call('DEL', command[2])
  end
  return redis.call(unpack(command))
end
local written = 1
for _, c in ipairs(asked.checks) do
  local record = read(c[1], c[2])
  if (record and string.match(record, '^%d+') or '0') ~= c[3] then written = 0 end
end
local t = redis.call('TIME')
if asked.latest and tonumber(t[1]) + tonumber(t[2]) / 1000000 > asked.latest then written = 0 end
local now = string.format('%d.%06d', t[1], t[2])
local function count(...)
  local number = redis.pcall(...)
  if type(number) == 'table' then return 0 end
  return number
end
local counts = {}
for _, c in ipairs(asked.connections) do
  local held = count('ZCOUNT', c[1], '(' .. now, '+inf')
  counts[#counts + 1] = held
  if held < c[2] or held > c[3] then written = 0 end
end
if written == 1 then
  for _, command in ipairs(asked.writes) do write(command) end
  for _, m in ipairs(asked.marks) do
    write({'ZADD', m[2], write({'HINCRBY', m[1], 'changes', 1}), m[3]})
  end
end
local lengths = 0
for _, line in ipairs(asked.lines) do lengths = lengths + count('ZCARD', line) end
local answer = {written, t[1], t[2], counts, lengths}
for _, r in ipairs(asked.reads) do answer[#answer + 1] = read(r[1], r[2]) end
return answer
"""

# The lines in which cells wait: of the servers that are named, else of all. Answers for each
# whether somebody waits there: the server, the connections to it, and the first cells. A line that
# is empty is forgotten.
LINES: Final = """
local t = redis.call('TIME')
local now = string.format('%d.%06d', t[1], t[2])
local servers = {unpack(ARGV, 5)}
if #servers == 0 then
  servers = redis.pcall('SMEMBERS', ARGV[1])
  if servers.err then redis.call('DEL', ARGV[1]) return {} end
end
local answer = {}
for _, server in ipairs(servers) do
  local cells = redis.pcall('ZRANGE', ARGV[2] .. server, 0, ARGV[4] - 1)
  if cells.err or #cells == 0 then
    redis.call('SREM', ARGV[1], server)
  else
    local held = redis.pcall('ZCOUNT', ARGV[3] .. server, '(' .. now, '+inf')
    if type(held) == 'table' then held = 0 end
    answer[#answer + 1] = {server, held, cells}
  end
end
return answer
"""


class Change:
    """What one script is to do."""

    def __init__(self, *reads: Field) -> None:
        self.reads = reads
        self.checks: list[tuple[str, str, str]] = []
        self.writes: list[list[str]] = []
        self.marks: list[tuple[str, str, str]] = []
        self.latest: float | None = None
        self.connections: list[tuple[str, int, int]] = []
        self.lines: list[str] = []

    def check(self, field: Field, version: int) -> None:
        self.checks.append((*field, str(version)))

    def write(self, *command: object) -> None:
        self.writes.append([str(word) for word in command])

    def provide(self, connections: Mapping[str, tuple[int, int]]) -> None:
        self.connections += [
            (server_key(server), *bounds) for server, bounds in connections.items()
        ]

    def encoded(self) -> bytes:
        asked = vars(self)
        if self.latest is None:
            asked = {name: value for name, value in asked.items() if name != "latest"}
        return msgspec.json.encode(asked)


@dataclass(frozen=True)
class Answer:
    """What one script did, and found.

    :ivar written: whether the change was made
    :ivar now: the time
    :ivar records: that were asked for
    :ivar connections: that were counted, in the order in which they were asked for
    :ivar waiting: cells in the lines that were asked for
    """

    written: bool
    now: float
    records: list[str | None]
    connections: list[int]
    waiting: int
