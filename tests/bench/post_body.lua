-- wrk: the same body again and again, from the file BODY, of media type TYPE (JSON), answer as ACCEPT; with PAUSE_MS every
-- connection pauses between two requests.
wrk.method = "POST"
wrk.headers["Content-Type"] = os.getenv("TYPE") or "application/json"
wrk.headers["Accept"] = os.getenv("ACCEPT") or "application/json"
local file = assert(io.open(os.getenv("BODY"), "rb"))
wrk.body = file:read("*a")
file:close()

local pause = tonumber(os.getenv("PAUSE_MS") or "0")
if pause > 0 then
    -- Spread around the mean, so that connections do not march in step.
    function delay()
        return pause * (0.5 + math.random())
    end
end
