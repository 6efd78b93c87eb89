-- wrk: the same JSON body again and again, from the file BODY; with PAUSE_MS every connection pauses between two requests.
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
local file = assert(io.open(os.getenv("BODY")))
wrk.body = file:read("*a")
file:close()

local pause = tonumber(os.getenv("PAUSE_MS") or "0")
if pause > 0 then
    -- Spread around the mean, so that connections do not march in step.
    function delay()
        return pause * (0.5 + math.random())
    end
end
