"""A model acts in a task, and says how sure it is.

python examples/01_act.py [MODEL [TASK]]
"""

import sys

import db1

place = sys.argv[1] if len(sys.argv) > 1 else "base"
task = sys.argv[2] if len(sys.argv) > 2 else "babyai/GoToLocal"

model = db1.load(place)
env = db1.make_env(task)
agent = model.agent(env)
for episode in range(3):
    observation, _ = env.reset(seed=2_000_000 + episode)
    agent.reset()
    total, sure, over = 0.0, [], False
    while not over:
        action = agent.act(observation)
        sure.append(agent.probabilities.max(axis=1).mean())
        observation, reward, terminated, truncated, _ = env.step(action)
        total, over = total + reward, terminated or truncated
    print(f"episode {episode}: return {total:.3f} in {len(sure)} steps, sure {min(sure):.2f}")
