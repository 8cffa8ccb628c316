-- What tenants' scripts may use and reach, whatever they are called.
return {
  handlers = {
    ["tenant_*"] = {
      limits = { memory = "8M", time = "50ms", message = "64K", mailbox = 100, atoms = 20 },
      allow = { send = { "audit" } },
    },
  },
}
