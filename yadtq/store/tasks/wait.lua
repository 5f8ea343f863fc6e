-- Read tasks, and in the same step register a waiter with those that are not final, so that nothing falls between.
-- KEYS    task hashes
-- ARGV    1 channel (without prefix; empty: only read), 2 ttl in seconds of the registration with an unknown task
-- returns three values for each task: state letter or false, attempt, payload (of a final state, or R's last error)
local out = {}
for i, key in ipairs(KEYS) do
  local at = i * 3 - 3
  local task = redis.call('HMGET', key, 's', 'a', 'r', 'c')
  local state = task[1]
  local final = state == 'S' or state == 'F' or state == 'C'
  if ARGV[1] ~= '' and not final then
    local channels = task[4] or ''
    if not string.find(' ' .. channels .. ' ', ' ' .. ARGV[1] .. ' ', 1, true) then
      redis.call('HSET', key, 'c', channels == '' and ARGV[1] or (channels .. ' ' .. ARGV[1]))
    end
    if not state then redis.call('EXPIRE', key, ARGV[2]) end
  end
  out[at + 1], out[at + 2], out[at + 3] = state, task[2] or '0', (final or state == 'R') and task[3] or ''
end
return out
