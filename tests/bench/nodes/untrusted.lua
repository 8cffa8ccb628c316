-- The same handler in a worker, with room for the largest echo.
return {
  handlers = {
    echo = {
      path = "echo.lua",
      trust = "none",
      limits = { memory = "1G", message = "256M", mailbox = 1000000, time = "60s" },
    },
  },
}
