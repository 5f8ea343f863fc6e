-- Functions that the scripts of this folder share: put in front of each of them.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

-- An error that says that a key holds something else than a task. Any other is for the caller: it says nothing of the task.
local function is_damage(text)
  return string.find(text, 'WRONGTYPE', 1, true) ~= nil
end

-- Keep what can't be read, to find the cause. No task id has a brace.
local function set_aside(key, ttl)
  redis.call('RENAME', key, key .. '{damaged}')
  redis.call('EXPIRE', key .. '{damaged}', ttl)
end

-- Whether Redis has lost the lease of this attempt, and nobody else holds the task: the task is unknown; or damaged; or
-- registered again; or only an older attempt is known of it, without a living lease (Redis came back with older data).
-- task: state, nonce, attempt, or the error of reading them.
local function is_lost(key, task, attempt, ttl)
  if task.err then
    set_aside(key, ttl)
    return true
  end
  local state = task[1]
  if not state then return true end
  if state == 'S' or state == 'F' or state == 'C' then return false end
  local stored = tonumber(task[3] or 0)
  if not stored or stored >= tonumber(attempt) then return false end
  return state ~= 'I' or (tonumber(redis.call('HGET', key, 'l') or 0) or 0) <= now
end

-- What is written again after a loss belongs to the home that it had. restorable: 1, or that home.
local function set_home(key, restorable)
  if restorable ~= '1' then redis.call('HSET', key, 'h', restorable) end
end
