from reports import *
