"""The scripts that Valkey runs; each is one atomic step of the protocol (docs/read-cache.md)."""

from __future__ import annotations

from typing import Final

#: Keys: epoch, generations. Arguments: seconds, then a token for each generation. Makes the missing
#: generations, and returns the epoch and all generations; an empty list without an open epoch.
OPEN_GENERATIONS: Final = """#!lua
local epoch = redis.call('GET', KEYS[1])
if not epoch or string.sub(epoch, 1, 1) == '-' then return {} end
local high = string.match(epoch, '^%S+ %S+ (%d+) ')
local records = {epoch}
for i = 2, #KEYS do
  local record = redis.call('GET', KEYS[i])
  if not record then
    record = ARGV[i] .. ' ' .. high
    redis.call('SET', KEYS[i], record, 'EX', ARGV[1])
  end
  records[i] = record
end
return records
"""

#: Key: epoch. Argument: a token. Begins to open the epoch: from now on, changes leave their
#: transaction here. Returns 0 if another reader has opened it.
BEGIN_EPOCH: Final = """#!lua
local epoch, high = redis.call('GET', KEYS[1]), '0'
if epoch then
  if string.sub(epoch, 1, 1) ~= '-' then return 0 end
  high = string.match(epoch, '^%S+ %S+ (%d+) ')
end
redis.call('SET', KEYS[1], '-' .. ARGV[1] .. ' 0 ' .. high .. ' -')
return 1
"""

#: Key: epoch. Arguments: the token of `BEGIN_EPOCH`; transaction and history of the primary, read
#: after it. Returns 0 if another reader, or a flush, came between.
OPEN_EPOCH: Final = """#!lua
local epoch = redis.call('GET', KEYS[1])
if not epoch then return 0 end
local token, high = string.match(epoch, '^%-(%x+) %S+ (%d+) ')
if token ~= ARGV[1] then return 0 end
if tonumber(high) < tonumber(ARGV[2]) then high = ARGV[2] end
redis.call('SET', KEYS[1], token .. ' ' .. high .. ' ' .. high .. ' ' .. ARGV[3])
return 1
"""

#: Keys: epoch, the changed generations. Arguments: transaction and history of the change, a token,
#: and `all` if every answer becomes invalid. Runs with a full memory too. Without an epoch no
#: answer is valid, and the reader that opens it asks for a later transaction than this one.
ANNOUNCE_CHANGE: Final = """#!lua flags=allow-oom
for i = 2, #KEYS do redis.call('UNLINK', KEYS[i]) end
local record = redis.call('GET', KEYS[1])
if not record then return 0 end
local token, floor, high, history = string.match(record, '^(%S+) (%d+) (%d+) (%S+)$')
local transaction = ARGV[1]
if history ~= '-' and history ~= ARGV[2] then
  token, floor, high, history = ARGV[3], transaction, transaction, ARGV[2]
else
  if tonumber(high) < tonumber(transaction) then high = transaction end
  if ARGV[4] == 'all' and history ~= '-' then token, floor = ARGV[3], high end
end
redis.call('SET', KEYS[1], token .. ' ' .. floor .. ' ' .. high .. ' ' .. history)
return 1
"""
