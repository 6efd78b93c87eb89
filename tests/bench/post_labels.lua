-- wrk: one label a request, every one new. Threads of wrk share nothing, so each counts on its own; RUN keeps two runs apart.
local threads = 0
local run = os.getenv("RUN") or tostring(os.time())

function setup(thread)
    thread:set("id", threads)
    threads = threads + 1
end

local counter = 0
function init()
    wrk.method = "POST"
    wrk.headers["Content-Type"] = "application/json"
end

function request()
    counter = counter + 1
    local body = string.format('{"instance":"i%d","annotator":"r%s-%d-%d","class":"c%d"}', counter % 1000, run, id,
        math.floor(counter / 1000), counter % 10)
    return wrk.format(nil, nil, nil, body)
end
