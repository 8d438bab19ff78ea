"""A model behind HTTP, and a client that acts through it.

python examples/08_serve.py [MODEL [TASK]]
"""

import subprocess
import sys

import db1
from db1.client import Client

place = sys.argv[1] if len(sys.argv) > 1 else "base"
task = sys.argv[2] if len(sys.argv) > 2 else "babyai/GoToLocal"

command = [sys.executable, "-m", "db1", "serve", place, "--port", "0"]
with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
    try:
        address = server.stdout.readline().split()[1]  # "serving: http://127.0.0.1:PORT"
        client = Client(address)
        print("server:", client.health()["status"])
        env = db1.make_env(task)
        observation, _ = env.reset(seed=2_000_000)
        with client.agent(env) as agent:
            for step in range(5):
                action = agent.act(observation)
                observation, reward, *_ = env.step(action)
                print(f"step {step}: action {action}, reward {reward:.3f}")
    finally:
        server.terminate()
