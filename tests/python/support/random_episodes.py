"""An environment in which episodes end at random; needs gymnasium."""

import gymnasium
import numpy as np


class RandomEpisodes(gymnasium.Env):
    """Observations that mean nothing, but for the first of an episode: it names the action that is paid for."""

    def __init__(self, ends=0.1, dictionary=False):
        box = gymnasium.spaces.Box(-np.inf, np.inf, (3,))
        self.observation_space = gymnasium.spaces.Dict({"a": box, "b": box}) if dictionary else box
        self.action_space = gymnasium.spaces.Discrete(2)
        self.ends, self.dictionary = ends, dictionary

    def observation(self):
        numbers = self.np_random.standard_normal((2, 3), dtype=np.float32)
        return {"a": numbers[0], "b": numbers[1]} if self.dictionary else numbers[0]

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        observation = self.observation()
        self.wanted = int((observation["a"] if self.dictionary else observation)[0] > 0)
        return observation, {}

    def step(self, action):
        reward, draw = float(int(action) == self.wanted), self.np_random.random()
        return self.observation(), reward, draw < self.ends / 2, self.ends / 2 <= draw < self.ends, {}
