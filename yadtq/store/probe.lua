-- Try every command of the scripts once, so that an account that lacks a right is refused at the start, by name.
-- KEYS    1 a key that nothing else uses
-- ARGV    1 control channel, 2 a waiter's channel
-- returns command and error, for each that was refused
local key = KEYS[1]
local tries = {
  { 'TIME' }, { 'DEL', key }, { 'HSETNX', key, 'field', '1' }, { 'HSET', key, 'field', '1' }, { 'HGET', key, 'field' },
  { 'HMGET', key, 'field' }, { 'HGETALL', key }, { 'HEXISTS', key, 'field' }, { 'HDEL', key, 'field' }, { 'HSET', key, 'field', '1' },
  { 'EXPIRE', key, '60' }, { 'RENAME', key, key .. '{damaged}' }, { 'DEL', key .. '{damaged}' },
  { 'PUBLISH', ARGV[1], 'probe' }, { 'PUBLISH', ARGV[2], '' },
}
local refused = {}
for _, words in ipairs(tries) do
  local answer = redis.pcall(unpack(words))
  -- A key that could not be written can't be renamed: a consequence, not a cause.
  if type(answer) == 'table' and answer.err and not string.find(answer.err, 'no such key', 1, true) then
    refused[#refused + 1] = words[1]
    refused[#refused + 1] = answer.err
  end
end
return refused
