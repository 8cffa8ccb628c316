defmodule Lunode.Application do
  @moduledoc false
  use Application

  @impl true
  def start(_type, _args) do
    children = [
      {Registry, keys: :unique, name: Lunode.Registry},
      Lunode.Names
    ]

    Supervisor.start_link(children, strategy: :one_for_all, name: Lunode.Supervisor)
  end
end
