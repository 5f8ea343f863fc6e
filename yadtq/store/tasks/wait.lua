-- Read tasks, and in the same step register a waiter with those that are not final, so that no final state is missed.
-- KEYS    1 the data set (data_set.lua), 2.. task hashes
-- ARGV    1 channel (without prefix; empty: only read), 2 ttl in seconds of the registration with an unknown task,
--         3 channels that a task may have: the oldest one is removed, and is added again with its next re-check
-- returns three values for each task: state letter or false, attempt, payload (of a final state, or R's last error)
local channel, most = ARGV[1], tonumber(ARGV[3])
local out = {}
local mark = redis.pcall('HGET', KEYS[1], 'm')
if type(mark) ~= 'string' then mark = nil end

-- Redis went back in time, and nobody has confirmed since that the task is still to be run: it may have ended in the time
-- that was lost. Then nothing is known of it.
local function is_memory(key, state)
  local task = redis.call('HMGET', key, 'm', 'l')
  return task[1] ~= mark and not (state == 'I' and (tonumber(task[2] or 0) or 0) > now)
end

local function register(key, channels)
  if not channels or channels == '' then return redis.call('HSET', key, 'c', channel) end
  if string.find(' ' .. channels .. ' ', ' ' .. channel .. ' ', 1, true) then return end
  local _, count = string.gsub(channels, '%S+', '')
  for _ = most, count do channels = string.match(channels, '^%s*%S+%s*(.*)$') end
  redis.call('HSET', key, 'c', channels == '' and channel or (channels .. ' ' .. channel))
end

for i = 2, #KEYS do
  local key, at = KEYS[i], i * 3 - 6
  local task = redis.pcall('HMGET', key, 's', 'a', 'r', 'c')
  if task.err then
    if not is_damage(task.err) then return task end
    out[at + 1], out[at + 2], out[at + 3] = '!', '0', ''
  else
    local state = task[1]
    local final = state == 'S' or state == 'F' or state == 'C'
    if channel ~= '' and not final then
      register(key, task[4])
      if not state then redis.call('EXPIRE', key, ARGV[2]) end
    end
    if mark and state and not final and is_memory(key, state) then state = false end
    out[at + 1], out[at + 2], out[at + 3] = state, task[2] or '0', (final or state == 'R') and task[3] or ''
  end
end
return out
