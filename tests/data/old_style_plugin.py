# A plugin as they have been written for years: a bare `import plugin`, two arguments, a polled flag, a status.
import threading
import time
from collections import OrderedDict

import plugin


class MainThread(threading.Thread):
    def __init__(self, parent):
        super(MainThread, self).__init__()
        self.getout = False
        self.parent = parent
        self.log = parent.log
        self.count = 0

    def run(self):
        while True:
            if self.getout:
                break
            time.sleep(0.1)
            self.count += 1
            self.log.debug("round")
        self.running = False

    def stop(self):
        self.getout = True


class Plugin(plugin.PluginBase):
    def __init__(self, name, config):
        super(Plugin, self).__init__(name, config)
        self.thread = MainThread(self)

    def run(self):
        self.thread.start()

    def stop(self):
        self.thread.stop()
        if self.thread.is_alive():
            self.thread.join(1.0)
        if self.thread.is_alive():
            raise plugin.PluginFail

    def get_status(self):
        return OrderedDict({"Count": self.thread.count})
